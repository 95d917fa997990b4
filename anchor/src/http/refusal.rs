//! Answers that are not what was asked for: a status, and a sentence that says why.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use super::files::NotServed;

/// Why a request is not answered with what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is no path of ours.
    #[error("there is checkpoint, tile/<L>/<N>, tile/entries/<N>, site.policy")]
    NoSuchPath,
    /// The file is not there, or not for now, or does not read.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// The token is not presented.
    #[error("entries are private: send the token, Authorization: Bearer <token>")]
    NoToken,
    /// Who asks may not have it.
    #[error("entries are private: {0}")]
    Private(&'static str),
    /// The anchor does not work.
    #[error("{0}")]
    Unwell(String),
    /// Something failed that should not.
    #[error("it cannot be answered: {0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath | Self::NotServed(NotServed::Beyond(_) | NotServed::Gone) => StatusCode::NOT_FOUND,
            Self::NotServed(NotServed::Damaged { .. } | NotServed::Unreadable { .. }) | Self::Failed(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Private(_) => StatusCode::FORBIDDEN,
            Self::Unwell(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let answer = (self.status(), [(CACHE_CONTROL, "no-store")], format!("{self}\n"));
        match self {
            // RFC 6750 section 3.
            Self::NoToken => ([(WWW_AUTHENTICATE, "Bearer realm=\"entries of the log\"")], answer).into_response(),
            Self::NoSuchPath | Self::NotServed(_) | Self::Private(_) | Self::Unwell(_) | Self::Failed(_) => {
                answer.into_response()
            }
        }
    }
}
