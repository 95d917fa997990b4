//! The section `[http]`, and the token that opens the entries.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use grid_service::settings::Problems;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The section `[http]`: how the log is served to mirrors, verifiers and people.
///
/// ```toml
/// [http]
/// listen = "127.0.0.1:8080"
/// ```
///
/// There is no TLS here. Where the way to the reader cannot be trusted with a token, put a proxy with TLS in front, and
/// give a `token_file`, since then every request comes from the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port: `127.0.0.1:8080`, or `[::]:8080` for all interfaces. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The file whose first line is the token that opens the entries: 16 to 512 of `A-Z a-z 0-9 - . _ ~ + / =`. Who
    /// reads entries must then send it, from this machine too. Default: none; then entries are served on a loopback
    /// address only, since what a household draws is its own business. Checkpoint and hashes are open to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// Its file cannot be read.
    #[error("http.token_file {file:?} cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could be guessed, or would not fit a header (RFC 6750 section 2.1).
    #[error(
        "the first line of http.token_file {0:?} is no token: use 16 to 512 of A-Z a-z 0-9 - . _ ~ + / =, such as what \
         openssl rand -hex 32 prints"
    )]
    Form(PathBuf),
}

impl HttpSettings {
    /// Notes what is wrong with the values.
    pub fn check(&self, problems: &mut Problems) {
        if let Err(bad) = self.token() {
            problems.unless(false, || bad.to_string());
        }
    }

    /// Reads the token, if one is configured.
    pub fn token(&self) -> Result<Option<Token>, BadToken> {
        self.token_file.as_deref().map(Token::read).transpose()
    }
}

/// The token that opens the entries. Only its digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    fn read(file: &Path) -> Result<Self, BadToken> {
        let text = fs::read_to_string(file).map_err(|source| BadToken::Unreadable { file: file.to_owned(), source })?;
        let token = text.lines().next().unwrap_or_default().trim();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if (16..=512).contains(&token.len()) && token.bytes().all(fits) {
            Ok(Self(Sha256::digest(token).into()))
        } else {
            Err(BadToken::Form(file.to_owned()))
        }
    }

    /// Whether a header `Authorization` presents this token. How long that takes tells nothing about the token: digests
    /// are compared, and all of their bytes.
    pub fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, presented)) = authorization.split_once(' ') else { return false };
        let digest: [u8; 32] = Sha256::digest(presented.trim()).into();
        let differs = self.0.iter().zip(digest).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs));
        scheme.eq_ignore_ascii_case("bearer") && differs == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Result<Token, BadToken> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, text).unwrap();
        Token::read(&file)
    }

    #[test]
    fn a_token_is_recognised_whatever_the_case_of_its_scheme() {
        let token = token("0123456789abcdef\nsecond line\n").unwrap();
        assert!(token.is_in("Bearer 0123456789abcdef"));
        assert!(token.is_in("bearer  0123456789abcdef"));
        for wrong in ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "Bearer", ""] {
            assert!(!token.is_in(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_could_be_guessed_or_does_not_fit_a_header_is_no_token() {
        for text in ["", "\n0123456789abcdef", "short", "0123456789 abcdef", "0123456789äbcdef"] {
            assert!(matches!(token(text), Err(BadToken::Form(_))), "{text:?}");
        }
        assert!(matches!(Token::read(Path::new("/nowhere/token")), Err(BadToken::Unreadable { .. })));
    }
}
