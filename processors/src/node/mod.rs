//! The node types, one file or folder each: parameters, blueprint, processor, tests.

pub mod board;
pub mod count;
pub mod decode;
pub mod dedupe;
pub mod rate_check;
pub mod toggle;
pub mod total;
pub mod unique;
