//! Reads that wait until they contain what a receipt covers.

use std::time::Instant;
use tally_model::Receipt;

/// The receipt that a read waits for, and its deadline.
pub struct After {
    /// The receipt whose events must be visible.
    pub receipt: Receipt,
    /// When to answer without it.
    pub deadline: Instant,
}
