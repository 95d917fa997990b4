//! MQTT over WebSocket (MQTT 5 section 6, RFC 6455): the upgrade, and a byte stream over binary frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WebSocketError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

/// What a client may ask for, what we like best first: the name of the specification (\[MQTT-6.0.0-3\]), and the one
/// that clients used before 3.1.1 was a standard and still offer.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const PATHS: [&str; 2] = ["/", "/mqtt"];
/// Time for the answer to who is turned away.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Room for one read from the socket.
const READ_SIZE: usize = 8 * 1024;
/// Most bytes in one frame to a client.
const WRITE_SIZE: usize = 16 * 1024;
/// Most bytes in one message from a client, unless a single packet may be larger. A message is read whole, so this
/// is what a connection can make us keep; less would hurt MQTT.js, which in a browser puts all that waits into one.
const MESSAGE_SIZE: usize = 64 * 1024;

/// Why there is no WebSocket.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The answer said so.
    #[error("{0}")]
    Refused(&'static str),
    /// An HTTP request for something else, not answered yet.
    #[error("not a WebSocket request: {0}")]
    NoUpgrade(ProtocolError),
    /// The connection, or what came over it.
    #[error(transparent)]
    Failed(Box<WebSocketError>),
}

const NO_SUBPROTOCOL: &str = "this WebSocket speaks the subprotocol mqtt and nothing else; ask for it";
const NO_SUCH_PATH: &str = "MQTT is at / and /mqtt";
const NO_UPGRADE: &str = "this is MQTT over WebSocket; connect with an MQTT client";

/// Answers the HTTP request that begins a WebSocket. `max_packet` is the largest MQTT packet.
pub async fn accept<S>(stream: &mut S, max_packet: usize) -> Result<Frames<&mut S>, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let max_message = max_packet.max(MESSAGE_SIZE);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_SIZE)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    let mut refused = None;
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let choose = |request: &Request, mut response: Response| match subprotocol(request) {
        Ok(subprotocol) => {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
            Ok(response)
        }
        Err((status, sentence)) => {
            refused = Some(sentence);
            Err(refusal(status, sentence))
        }
    };
    match tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(config)).await {
        Ok(socket) => Ok(Frames { socket, rest: Bytes::new() }),
        Err(WebSocketError::Protocol(reason)) if is_plain_http(&reason) => Err(Refusal::NoUpgrade(reason)),
        Err(error) => Err(match refused {
            Some(sentence) => Refusal::Refused(sentence),
            None => Refusal::Failed(Box::new(error)),
        }),
    }
}

/// Tells whoever sent another HTTP request what this is, and ends the connection.
pub async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S, refusal: &Refusal) {
    let tell = async {
        if let Refusal::NoUpgrade(_) = refusal {
            let answer = format!(
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n\
                 {NO_UPGRADE}\n",
                NO_UPGRADE.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.shutdown().await
    };
    // Who has gone meanwhile needs no answer.
    let _ = tokio::time::timeout(LAST_WORDS, tell).await;
}

/// Whether somebody sent an HTTP request that is none for a WebSocket: a person with a browser, say.
fn is_plain_http(error: &ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::WrongHttpMethod
            | ProtocolError::WrongHttpVersion
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader
            | ProtocolError::MissingSecWebSocketKey
            | ProtocolError::InvalidSecWebSocketKey
    )
}

fn subprotocol(request: &Request) -> Result<&'static str, (StatusCode, &'static str)> {
    if !PATHS.contains(&request.uri().path()) {
        return Err((StatusCode::NOT_FOUND, NO_SUCH_PATH));
    }
    let offered = || {
        let headers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
        headers.filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(',')).map(str::trim)
    };
    let chosen = SUBPROTOCOLS.into_iter().find(|known| offered().any(|offer| offer == *known));
    chosen.ok_or((StatusCode::BAD_REQUEST, NO_SUBPROTOCOL))
}

fn refusal(status: StatusCode, sentence: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(format!("{sentence}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    response.headers_mut().insert("content-length", HeaderValue::from(sentence.len() + 1));
    response
}

/// A WebSocket as a stream of bytes: packets may span frames, and a frame may hold several (\[MQTT-6.0.0-2\]).
///
/// A write becomes one frame. It should be flushed before the next: [`WriteThrough`](super::WriteThrough) does.
/// Pings are answered while reading.
#[derive(Debug)]
pub struct Frames<S> {
    socket: WebSocketStream<S>,
    /// What is left of the last message.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a WebSocket frame with text [MQTT-6.0.0-1]",
                    )));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let length = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(into_io)?;
        let length = bytes.len().min(WRITE_SIZE);
        let frame = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket).start_send(frame).map_err(into_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(into_io)
    }

    /// Sends a close frame, or the answer to one, then closes what is below.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_close(context)).map_err(into_io)?;
        Pin::new(self.socket.get_mut()).poll_shutdown(context)
    }
}

fn into_io(error: WebSocketError) -> io::Error {
    match error {
        WebSocketError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
