//! Who may read entries. They say what households draw, which is nobody else's business.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderName};

use super::refusal::Refusal;
use super::settings::Token;

/// Who may read entries.
pub enum Access {
    /// Who has the token.
    Token(Token),
    /// Who asks this machine by one of its own names.
    ThisMachine,
    /// Nobody: there is no token, and the address is not this machine's alone.
    Nobody,
}

impl Access {
    /// With a token, who has it; without, who is on this machine, if it alone can reach the address.
    pub fn new(token: Option<Token>, address: SocketAddr) -> Self {
        match token {
            Some(token) => Self::Token(token),
            None if address.ip().is_loopback() => Self::ThisMachine,
            None => Self::Nobody,
        }
    }

    /// Whether a token opens the entries.
    pub fn is_by_token(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Checks a request for entries.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Token(token) if text(AUTHORIZATION).is_some_and(|presented| token.is_in(presented)) => Ok(()),
            Self::Token(_) => Err(Refusal::NoToken),
            // A page from elsewhere that a browser on this machine shows can have its own name lead to here (DNS
            // rebinding); then it asks under that name.
            Self::ThisMachine if text(HOST).is_none_or(is_this_machine) => Ok(()),
            Self::ThisMachine => Err(Refusal::Private("ask as localhost, or set http.token_file")),
            Self::Nobody => Err(Refusal::Private("set http.token_file, or listen on a loopback address")),
        }
    }
}

/// Whether a header `Host` names the machine itself.
fn is_this_machine(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
