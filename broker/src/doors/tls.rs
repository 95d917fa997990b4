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

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::identity::{Identity, Issuer};
    use grid_protocol::units::UnixMillis;
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    /// The handshake of a server that asks for certificates of this authority.
    async fn handshake(authority: &[u8], client: Option<(Vec<u8>, Vec<u8>)>) -> Option<Vec<u8>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut clients = RootCertStore::empty();
        clients.add(authority.to_vec().into()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let key = PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.cert.der().clone()], key)
            .unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(server.cert.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let connector = TlsConnector::from(Arc::new(match client {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(vec![certificate.into()], PrivatePkcs8KeyDer::from(key).into()).unwrap()
            }
            None => builder.with_no_client_auth(),
        }));
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let (accepted, connected) = tokio::join!(accept(Arc::new(config), near), connector.connect(name, far));
        connected.unwrap();
        accepted.unwrap().1
    }

    #[tokio::test]
    async fn the_certificate_that_a_client_shows_is_handed_on() {
        // The message key is that of RFC 8032 section 7.1, test 1.
        let uri = "grid://demo/device/cp-1#11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let identity = Identity::from_uri(uri).unwrap();
        let now = UnixMillis(1_780_000_000_000);
        let issuer = Issuer::create(&identity.site, now).unwrap();
        let authority = issuer.authority();
        let (certificate, key) = issuer.issue(&identity, now).unwrap();
        let shown = handshake(authority.der(), Some((certificate.clone(), key))).await;
        assert_eq!(shown, Some(certificate));
        assert_eq!(handshake(authority.der(), None).await, None);
    }
}
