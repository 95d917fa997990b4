//! Streams whose writes are done when they have reached the socket.
//!
//! TLS and WebSocket streams say that bytes are written when they have encoded them, and leave the rest in a buffer of
//! their own if the socket is full, until somebody flushes. Here a write ends only after its flush: nothing is left
//! behind, a client that reads nothing is noticed as on plain TCP, and at most one write is buffered twice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes include the flush.
///
/// A write that was given up halfway has already taken its bytes, so the next one must begin with the same bytes: what
/// is to be written may grow at its end meanwhile, and is shortened only by what was reported as written.
#[derive(Debug)]
pub struct WriteThrough<S> {
    inner: S,
    /// Bytes that `inner` has taken and that were not reported yet.
    taken: usize,
}

impl<S> WriteThrough<S> {
    /// Writes through to the socket below `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteThrough<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteThrough<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.taken == 0 {
            self.taken = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        }
        debug_assert!(self.taken <= bytes.len(), "the next write after a pending one must begin with its bytes");
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};

    #[tokio::test]
    async fn a_write_that_was_given_up_goes_on_where_it_was() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut stream = WriteThrough::new(BufWriter::new(near));
        let mut waiting = b"abcdefgh".to_vec();
        // The far end takes four bytes, so this write hangs in its flush, and is dropped.
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(20), stream.write(&waiting)).await;
        assert!(given_up.is_err());
        waiting.extend(b"ijkl");
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        let written = stream.write(&waiting).await.unwrap();
        assert_eq!(written, 8, "what the first write had taken");
        assert_eq!(stream.write(&waiting[written..]).await.unwrap(), 4);
        drop(stream);
        assert_eq!(reading.await.unwrap(), b"abcdefghijkl");
    }
}
