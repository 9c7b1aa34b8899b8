//! The one place where what went wrong below becomes a problem of HTTP: the cause goes to the log, not to the client.

use crate::answers::ReadError;
use crate::answers::progress::Unread;
use crate::collects::CollectError;
use crate::database::DatabaseError;
use crate::reads::ladder::Away;
use tally_http::ApiProblem;
use tally_streams::log::LogError;

impl From<DatabaseError> for ApiProblem {
    fn from(error: DatabaseError) -> Self {
        tracing::warn!("{error}");
        Self::from(Away)
    }
}

impl From<Away> for ApiProblem {
    fn from(_: Away) -> Self {
        Self::unavailable("The database does not respond. Retry.", 1)
    }
}

impl From<ReadError> for ApiProblem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            ReadError::Away(away) => away.into(),
        }
    }
}

impl From<Unread> for ApiProblem {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Log(error) => log_is_away(&error),
            Unread::Database(error) => error.into(),
            Unread::Gone(_) => Self::internal(),
        }
    }
}

impl From<CollectError> for ApiProblem {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Over(over) => {
                let detail = format!("Nothing was changed: the request exceeds {over}.");
                Self::too_many_requests(detail, over.retry_after_s)
            }
            CollectError::Random(error) => {
                tracing::error!(%error, "the system's random number generator failed");
                Self::internal()
            }
            CollectError::Doubt(doubt) => {
                let detail = format!("This server's clock is in doubt: {doubt}. Nothing was changed; retry later.");
                Self::unavailable(detail, 10)
            }
            CollectError::Busy => Self::unavailable("The database is overloaded. Nothing was changed; retry.", 1),
            CollectError::Away => {
                let detail = "The database does not respond. Retry: the request is idempotent.";
                Self::unavailable(detail, 1)
            }
        }
    }
}

/// 503: the log does not answer.
pub fn log_is_away(error: &LogError) -> ApiProblem {
    tracing::warn!("log: {error}");
    ApiProblem::unavailable("The log does not respond. Retry.", 1)
}
