//! `tally test`: cases in `*_test.yaml`, run on a topology in memory.
//!
//! [`TestFile::load`] reads a file and reports its mistakes as `tally check` does. [`run_case`] runs a case: first in
//! order, then in the orders that the file asks for (`always`), each of which must meet the same expectations.

mod case;
mod comparison;
mod expectation;
mod file;
mod junit;
mod metric_value;
mod moment;
mod names;
mod observed;
mod order;
mod printed;
mod run;
mod step;

pub use case::Case;
pub use file::TestFile;
pub use junit::{Suite, junit};
pub use names::window_name;
pub use printed::{Summary, print_case};
pub use run::{CaseFailure, Cause, Outcome, run_case};
