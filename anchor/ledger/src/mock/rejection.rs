//! What the services answer instead of a result: status codes and texts as a node gives them.

use iota_sdk_grpc_types::google::rpc::{RetryInfo, Status as RpcStatus};
use iota_sdk_grpc_types::prost_types::{Any, Duration};
use iota_sdk_grpc_types::tonic::{Code, Status};

/// After which time an overloaded node asks its clients to come again.
const RETRY_AFTER: Duration = Duration { seconds: 1, nanos: 0 };

/// A request, or one item of it, that has no result.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) code: Code,
    pub(super) message: String,
    retry_after: Option<Duration>,
}

impl Rejection {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The request is at fault.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The address asked too often. A node gives no time after which to come again; what stands before one may.
    pub(super) fn rate_limited(retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(Code::ResourceExhausted, "Too many requests") }
    }

    /// The validators have too much to do.
    pub(super) fn overloaded() -> Self {
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(Code::Unavailable, "system is overloaded") }
    }

    /// The validators may have done it, or be about to.
    pub(super) fn timed_out() -> Self {
        Self::new(Code::Unavailable, "timed-out before finality could be reached")
    }

    /// A node could do it, but this is none.
    pub(super) fn beyond_the_mock(what: &str) -> Self {
        let message = format!(
            "{what} is beyond this mock ledger ({}): it executes the calls of init and of adding a record, merges, \
             splits and transfers coins, and nothing else",
            super::NOT_IOTA
        );
        Self::new(Code::Unimplemented, message)
    }

    /// The mock is at fault.
    pub(super) fn broken(reason: impl ToString) -> Self {
        Self::new(Code::Internal, reason.to_string())
    }

    /// As the result of one item of a request.
    pub(super) fn status(&self) -> RpcStatus {
        let mut status = RpcStatus::new(self.code, self.message.clone());
        if let Some(delay) = self.retry_after {
            let mut retry = RetryInfo::default();
            retry.retry_delay = Some(delay);
            // Encoding into memory cannot fail; without the hint, the status is one all the same.
            status.details.extend(Any::from_msg(&retry));
        }
        status
    }
}

/// As the result of a whole request.
impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        rejection.status().to_tonic_status()
    }
}
