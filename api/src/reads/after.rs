//! Reads that wait until they contain what a receipt covers.

use std::time::Instant;
use tally_model::Receipt;

/// What a read has to wait for, and until when.
pub struct After {
    /// What must be visible.
    pub receipt: Receipt,
    /// When to answer without it.
    pub deadline: Instant,
}
