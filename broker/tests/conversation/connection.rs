//! One of the connections that take part in a conversation.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::encoding::packet;
use super::reader::{Answers, Asked};
use super::steps::Deed;

/// The broker is quiet when nothing has come for this long.
const QUIET: Duration = Duration::from_millis(1);
/// A broker that does not read may leave the rest unsaid.
const WRITE_PATIENCE: Duration = Duration::from_millis(20);

pub struct Connection {
    stream: TcpStream,
    answers: Answers,
    asked: VecDeque<Asked>,
    /// The broker has closed it.
    ended: bool,
}

impl Connection {
    pub async fn open(address: SocketAddr, v5: Option<bool>, maximum_packet: Option<usize>) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
        Ok(Self { stream, answers: Answers::new(v5, maximum_packet), asked: VecDeque::new(), ended: false })
    }

    /// Does its part; the broker may have closed the connection long before. An error is the broker's.
    pub async fn act(&mut self, deed: &Deed) -> Result<(), String> {
        match deed {
            Deed::Connect { bytes, .. } => self.say(bytes).await,
            Deed::Say { bytes, times } => self.say(&bytes.repeat(*times)).await,
            Deed::Acknowledge { first, right_id, rest } => {
                self.read().await?;
                if let Some(asked) = self.asked.pop_front() {
                    let id = if *right_id { asked.id } else { [0x12, 0x34] };
                    self.say(&packet(first.unwrap_or(asked.answer), &[&id[..], rest].concat())).await;
                }
            }
            Deed::AcknowledgeAll => {
                self.read().await?;
                let answers: Vec<u8> = self.asked.drain(..).flat_map(|asked| packet(asked.answer, &asked.id)).collect();
                self.say(&answers).await;
            }
            Deed::Read => self.read().await?,
            Deed::Finish => drop(self.stream.shutdown().await),
            // By dropping it.
            Deed::Close => {}
            Deed::Reset => self.reset_when_dropped(),
        }
        Ok(())
    }

    pub fn reset_when_dropped(&self) {
        // Fails if it has ended already.
        let _ = self.stream.set_zero_linger();
    }

    /// Reads and judges what the broker says until it is quiet or has closed the connection.
    pub async fn read(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        while let Ok(read) = timeout(QUIET, self.stream.read(&mut bytes)).await {
            match read {
                Ok(length @ 1..) => self.asked.extend(self.answers.take(&bytes[..length])?),
                Ok(0) | Err(_) => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the broker has closed it, all that it said before being read.
    pub async fn has_ended(&mut self) -> Result<bool, String> {
        self.read().await?;
        Ok(self.ended)
    }

    async fn say(&mut self, bytes: &[u8]) {
        // A connection that the broker has closed says nothing.
        let _ = timeout(WRITE_PATIENCE, self.stream.write_all(bytes)).await;
    }
}
