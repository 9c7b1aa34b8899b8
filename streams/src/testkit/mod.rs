//! What tests of topologies, and of whatever reads or writes a log, share. Behind the feature `testkit`: no release build
//! has it.

mod altered;
mod driver;
mod topics;

pub use altered::{AlteredLog, ConsumerCall};
pub use driver::{TopologyTestDriver, Written};
pub use topics::{StoredRecord, append, read_topic};

use crate::processor::Dataflow;
use crate::task::{StateMemory, TaskSite, WIRE_VERSIONS};
use crate::topology::Topology;
use std::sync::Arc;

/// What a task of a first generation is given, with all state in memory. `owner` has no siblings.
pub fn task_site<D: Dataflow>(topology: Arc<Topology<D>>, owner: &str) -> TaskSite<D> {
    let owner = Arc::<str>::from(owner);
    TaskSite {
        topology,
        generation: 1,
        wire_version: *WIRE_VERSIONS.end(),
        hash_seed: 7,
        secret: [7; 32],
        siblings: [owner.clone()].into(),
        owner,
        confirmed_times: [].into(),
        state_dir: None,
        boot_id: "boot".to_owned(),
        memory: StateMemory::unlimited(),
    }
}
