//! Answers: what was read, as the JSON of a response.

pub mod board_pages;
pub mod counters;
pub mod cursor;
pub mod metric_json;
pub mod paging;
pub mod progress;
pub mod ranking;
pub mod topology;
pub mod viewer;
pub mod window;
pub mod written;

use crate::database::DatabaseError;
use crate::reads::ladder::Away;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No store does.
    #[error(transparent)]
    Away(#[from] Away),
}
