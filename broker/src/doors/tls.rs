//! The TLS handshake.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// Accepts TLS on `stream`. Also returns the client's own certificate (DER), if it showed one.
pub async fn accept<S>(config: Arc<ServerConfig>, stream: S) -> io::Result<(TlsStream<S>, Option<Vec<u8>>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    // The client's own comes first (RFC 8446 section 4.4.2).
    let certificate = certificates.and_then(<[_]>::first).map(|certificate| certificate.to_vec());
    Ok((stream, certificate))
}
