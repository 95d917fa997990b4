//! A log on a server: C2SP tlog-tiles over HTTP.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, CONTENT_ENCODING};
use ureq::http::{HeaderValue, StatusCode, Uri};

use super::{Listed, ReadError, Source, SourceError};
use crate::bundle::{self, BadBundle};

/// How many requests are under way at a time.
const READERS: usize = 8;
/// How often a request is made when the server or the line fails.
const TRIES: u32 = 4;
/// How long to wait before the second try; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(200);
const CONNECT: Duration = Duration::from_secs(10);
/// How long one file may take: the largest bundle in this time is 2 Mbit/s.
const FETCH: Duration = Duration::from_secs(60);
/// What a gzip file begins with (RFC 1952 section 2.3.1). No bundle does: there the third byte is the first entry's `{`.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// A log on a server.
pub struct Web {
    base: String,
    agent: Agent,
    token: Option<HeaderValue>,
}

impl Web {
    /// The log whose checkpoint is at `<url>/checkpoint`. Nothing is asked yet.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, SourceError> {
        let bad = || SourceError::Url(url.to_owned());
        let parsed: Uri = url.parse().map_err(|_| bad())?;
        let authority = parsed.authority().ok_or_else(bad)?;
        if parsed.query().is_some() || url.contains('#') || authority.as_str().contains('@') {
            return Err(bad());
        }
        let token = token.map(|token| bearer(token.trim())).transpose()?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(FETCH))
            .max_redirects(3)
            .max_idle_connections_per_host(READERS)
            .accept_encoding("gzip")
            .user_agent(concat!("grid-anchor/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { base: url.trim_end_matches('/').to_owned(), agent, token })
    }

    fn fetch(&self, path: &str, most: u64) -> Result<Vec<u8>, ReadError> {
        let url = format!("{}/{path}", self.base);
        let is_private = path.starts_with("tile/entries/");
        let mut request = self.agent.get(&url);
        // The token is for entries only: nobody needs it for the rest.
        if let Some(token) = self.token.as_ref().filter(|_| is_private) {
            request = request.header(AUTHORIZATION, token);
        }
        let unreachable = |source| SourceError::Unreachable { url: url.clone(), source: Box::new(source) };
        let mut response = request.call().map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(ReadError::Missing),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(SourceError::Forbidden { url, status: status.as_u16() }.into());
            }
            status => return Err(SourceError::Status { url, status: status.as_u16() }.into()),
        }
        let is_packed = response.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        // A packed tile of hashes, which cannot be made smaller, is a little larger.
        let bytes =
            response.body_mut().with_config().limit(most + 1024).read_to_vec().map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => ReadError::TooLarge(most),
                other => unreachable(other).into(),
            })?;
        let bytes = match is_packed && !is_private {
            true => inflate(&bytes, most).unwrap_or(Some(bytes)).ok_or(ReadError::TooLarge(most))?,
            false => bytes,
        };
        if bytes.len() as u64 > most { Err(ReadError::TooLarge(most)) } else { Ok(bytes) }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, SourceError> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token);
    let mut value = value.ok_or(SourceError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What is in a gzip file; nothing if that is more than so many bytes.
fn inflate(packed: &[u8], most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    GzDecoder::new(packed).take(most + 1).read_to_end(&mut plain)?;
    Ok((plain.len() as u64 <= most).then_some(plain))
}

/// Whether asking again may help.
fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Unreachable { source, .. } => {
            matches!(**source, ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed)
        }
        SourceError::Status { status, .. } => *status == 429 || *status >= 500,
        SourceError::Unreadable { .. } | SourceError::Url(_) | SourceError::Token | SourceError::Forbidden { .. } => {
            false
        }
    }
}

impl Source for Web {
    fn place(&self) -> String {
        self.base.clone()
    }

    fn read_at_most(&self, path: &str, most: u64) -> Result<Vec<u8>, ReadError> {
        let mut tries = 1;
        let mut pause = PAUSE;
        loop {
            match self.fetch(path, most) {
                Err(ReadError::Failed(error)) if tries < TRIES && is_passing(&error) => {
                    tracing::debug!(%error, tries, "asking again");
                    thread::sleep(pause);
                    tries += 1;
                    pause *= 2;
                }
                other => return other,
            }
        }
    }

    fn files(&self) -> Result<Option<Vec<Listed>>, SourceError> {
        Ok(None)
    }

    /// A server may send the file as it is, packed anew, or what is in it. What counts are the entries, whose hashes stand
    /// in the tree.
    fn unpack(&self, file: Vec<u8>, most: usize) -> Result<Option<Vec<u8>>, BadBundle> {
        let plain = match file.starts_with(&GZIP) {
            true => inflate(&file, most as u64).map_err(|_| BadBundle::Deflate)?,
            false => Some(file).filter(|file| file.len() <= most),
        };
        // More than there can be is no bundle.
        if plain.is_none() && most >= bundle::LARGEST { Err(BadBundle::Deflate) } else { Ok(plain) }
    }

    fn readers(&self) -> usize {
        READERS
    }
}
