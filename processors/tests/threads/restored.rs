//! A task that is restored from its changelog alone is the task that wrote it.

use std::sync::Arc;
use tally_processors::Actions;
use tally_streams::log::{Log, Now};
use tally_streams::runtime::StreamThread;
use tally_streams::task::{Task, TaskSite};
use tally_streams::topology::Topology;

/// Restores each task of a thread that has just committed from its changelog alone: it has the same entries at the same
/// place.
pub fn check(log: Arc<dyn Log>, topology: Arc<Topology<Actions>>, thread: &mut StreamThread<Actions>, now: Now) {
    let owners = ["tally-0".into(), "tally-1".into(), "audit".into()];
    let site = TaskSite { siblings: owners.into(), ..TaskSite::in_memory(topology, "audit") };
    for task in thread.tasks() {
        while task.hydrate(usize::MAX).unwrap() {}
        let index = site.topology.subtopologies.iter().position(|known| known.name == task.subtopology().name);
        let wanted = [(index.unwrap(), task.source().partition)];
        let restored = &mut Task::take_over(&site, &log, &wanted, now).unwrap()[0];
        let entries = |task: &mut Task<Actions>| {
            // A sketch without items says nothing: a transaction that was rolled back may leave one.
            let mut entries = task.stored();
            entries.retain(|(store, _), value| !(store.ends_with("sketches") && *value == [0]));
            entries
        };
        assert_eq!(entries(restored), entries(task), "{}", task.name());
        // The clock of an idle task may be ahead of its last commit.
        assert_eq!(restored.position().input_next, task.position().input_next, "{}", task.name());
    }
}
