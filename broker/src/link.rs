//! One link to rumqttd's router, and what comes through it.

use std::time::Instant;

use bytes::Bytes;
use rumqttd::Notification;
use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{Packet, PingReq};

use crate::router::Gone;

/// A link, registered with the router for as long as the router lives.
pub struct Link {
    /// Its number, which is also its name.
    pub number: usize,
    tx: LinkTx,
    rx: LinkRx,
}

/// What the router has to say.
pub enum Incoming {
    /// A message.
    Forward { topic: Bytes, envelope: Bytes },
    /// Answer to a subscribe.
    Granted,
    /// Answer to a ping.
    Pong,
    /// Something that needs no attention.
    Nothing,
}

impl Link {
    /// The two ends of a link that the router has accepted.
    pub fn new(number: usize, tx: LinkTx, rx: LinkRx) -> Self {
        Self { number, tx, rx }
    }

    /// Subscribes; answered by [`Incoming::Granted`].
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Gone> {
        Ok(self.tx.subscribe(filter).map(|_| ())?)
    }

    /// Unsubscribes. The answer needs no attention.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Gone> {
        Ok(self.tx.unsubscribe(filter).map(|_| ())?)
    }

    /// Asks for [`Incoming::Pong`], which comes after everything that is under way.
    pub async fn ping(&mut self) -> Result<(), Gone> {
        Ok(self.tx.send(Packet::PingReq(PingReq)).await.map(|_| ())?)
    }

    /// What comes next. Cancel-safe.
    pub async fn next(&mut self) -> Result<Incoming, Gone> {
        match self.rx.next().await? {
            Some(notification) => self.interpret(notification),
            None => Ok(Incoming::Nothing),
        }
    }

    /// What is there already.
    pub fn try_next(&mut self) -> Result<Option<Incoming>, Gone> {
        match self.rx.recv_deadline(Instant::now()) {
            Ok(Some(notification)) => self.interpret(notification).map(Some),
            Ok(None) => Ok(Some(Incoming::Nothing)),
            // Also when the router is gone, which `next` then says.
            Err(LinkError::RecvTimeout(_)) => Ok(None),
            Err(_) => Err(Gone),
        }
    }

    fn interpret(&mut self, notification: Notification) -> Result<Incoming, Gone> {
        Ok(match notification {
            Notification::Forward(forward) => {
                Incoming::Forward { topic: forward.publish.topic, envelope: forward.publish.payload }
            }
            Notification::Unschedule => {
                // Said at once, and not awaited: a cancelled wait would leave this link paused for ever, and saying it
                // twice is one of the things that the router does not bear.
                self.rx.ready()?;
                Incoming::Nothing
            }
            other => match Option::<Packet>::from(other) {
                Some(Packet::PingResp(_)) => Incoming::Pong,
                Some(Packet::SubAck(..)) => Incoming::Granted,
                _ => Incoming::Nothing,
            },
        })
    }
}
