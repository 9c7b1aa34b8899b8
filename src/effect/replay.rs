//! Processes events of a log in memory.

use super::decisions::{Decisions, Place};
use super::results::Results;
use std::sync::Arc;
use tally_model::{DeadLetter, OutputType, Verdict};
use tally_processors::Actions;
use tally_streams::log::{LoggedRecord, partition_of};
use tally_streams::simulation::{Simulation, Written};
use tally_streams::task::TaskError;
use tally_streams::topology::Topology;

/// Events between two commits. Decisions and final results do not depend on it.
const COMMIT_EVENTS: usize = 1_000;

/// What a topology makes of events.
pub struct Replay {
    /// What it decides.
    pub decisions: Decisions,
    /// What it computes.
    pub results: Results,
    /// Where each event stood, in their order.
    pub places: Vec<Place>,
}

/// Processes records of the root topic, which come in the order of their append times. `secret` is that of the log: it signs
/// events of the database.
pub fn replay(
    topology: &Arc<Topology<Actions>>,
    records: &[LoggedRecord],
    secret: [u8; 32],
) -> Result<Replay, TaskError> {
    let start_ms = records.first().map_or(0, |record| record.append_time_ms);
    let mut simulation = Simulation::with_secret(topology.clone(), start_ms, secret);
    let mut replay = Replay { decisions: Decisions::default(), results: Results::default(), places: Vec::new() };
    let partitions = topology.subtopologies.first().map_or(1, |root| root.partitions);
    let mut ends = vec![0; partitions as usize];
    for some in records.chunks(COMMIT_EVENTS) {
        for record in some {
            let key = record.key.as_deref();
            // `decode` rejects a record in the wrong partition.
            let home = partition_of(key.unwrap_or_default(), partitions);
            let partition = if record.partition < partitions { record.partition } else { home };
            let (value, headers) = (record.value.as_deref().unwrap_or_default(), record.headers());
            simulation.append_to(partition, key, value, &headers, record.append_time_ms);
            let end = &mut ends[partition as usize];
            replay.places.push((partition, *end));
            *end += 1;
        }
        simulation.settle()?;
        for (topic, record) in simulation.take_outputs() {
            replay.add(topology, &topic, &record);
        }
    }
    Ok(replay)
}

impl Replay {
    fn add(&mut self, topology: &Topology<Actions>, topic: &str, record: &Written) {
        let Some(known) = topology.topics.get(topic) else { return };
        match OutputType::from_name(&known.value) {
            Some(OutputType::Counters) => self.results.add_counters(record),
            Some(OutputType::CounterWindow) => self.results.add_window(record),
            Some(OutputType::Reaction) => self.results.add_reaction(record),
            Some(OutputType::Ranking) => self.results.add_ranking(record),
            Some(OutputType::Verdict) => {
                if let Ok(verdict) = serde_json::from_slice::<Verdict>(&record.value) {
                    self.decisions.add_verdict(&verdict);
                }
            }
            Some(OutputType::Raw) => {
                let header = |name: &str| record.headers.iter().find(|(known, _)| known == name).map(|(_, v)| &v[..]);
                let letter = DeadLetter::read(header, (Some(&record.key), Some(&record.value)), 0);
                self.decisions.add_dead_letter(letter, &topology.root);
            }
            None => {
                let prefix = &*topology.settings.topic_prefix;
                self.results.add_record(topic.strip_prefix(prefix).unwrap_or(topic), record);
            }
        }
    }
}
