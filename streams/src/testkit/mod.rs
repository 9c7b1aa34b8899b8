//! What tests of topologies, and of whatever reads or writes a log, share. Behind the feature `testkit`: no release build
//! has it.

mod altered;
mod driver;
mod topics;

pub use crate::simulation::Written;
pub use altered::{AlteredLog, ConsumerCall};
pub use driver::TopologyTestDriver;
pub use topics::{StoredRecord, append, read_topic};
