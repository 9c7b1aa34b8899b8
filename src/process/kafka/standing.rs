//! Transactions that hang in a partition: readers of committed records never get past the first of them.
//!
//! The log ends a transaction when it times out, and taking over a transactional id ends what its former holder left
//! open. A transaction that stays open nevertheless hangs: the partition still has it, but its coordinator does not
//! know it. The last stable offset then stays below the end of the partition, without any error, until an operator ends
//! the transaction.

use super::{Brokers, options};
use crate::commands::{Failure, SiteArgs};
use crate::process::watch::Watch;
use prometheus::{IntGaugeVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_streams::log::kafka::{KafkaOptions, OpenTransaction, open_transactions};
use tally_streams::log::{Log, LogError, TopicPartition, TopicSpec};

/// Between two checks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The log checks for expired transactions at this interval and needs some time to end them. A transaction open for
/// this much longer than the timeout of tally's own hangs.
const MARGIN: Duration = Duration::from_secs(20);
/// After this time a hanging transaction is reported again.
const REPEAT: Duration = Duration::from_secs(300);

/// Checks for such transactions as long as it lives.
pub struct StandingWatch {
    _watch: Watch,
}

impl StandingWatch {
    /// Watches every partition of these topics.
    pub fn start(
        args: &SiteArgs,
        brokers: &Brokers,
        log: Arc<dyn Log>,
        topics: &[TopicSpec],
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let options = options(args.log_properties.as_deref(), brokers)?;
        let gauge = IntGaugeVec::new(
            Opts::new(
                "tally_log_hanging_transactions",
                "Kafka only: partitions in which a transaction has been open for 30 s or more, so that no record after it can be read.",
            ),
            &["topic"],
        );
        let gauge = gauge.map_err(Failure::no)?;
        registry.register(Box::new(gauge.clone())).map_err(Failure::no)?;
        for topic in topics {
            gauge.with_label_values(&[&topic.name]).set(0);
        }
        let partitions: Vec<_> = topics
            .iter()
            .flat_map(|topic| (0..topic.partitions).map(|number| TopicPartition::new(topic.name.as_str(), number)))
            .collect();
        let mut standing = Standing::new(options.transaction_timeout + MARGIN);
        let watch = Watch::start("standing-watch", LOOK_EVERY, move || {
            // A log that does not answer is reported where the answer is needed.
            let Ok(found) = look(log.as_ref(), &partitions) else { return };
            let changes = standing.observe(&found, Instant::now());
            for partition in &changes.over {
                tracing::info!(topic = %partition.topic, partition = partition.partition, "a hanging transaction is over");
            }
            for hanging in &changes.hanging {
                report(&options, hanging);
            }
            for topic in gauge_labels(&partitions) {
                gauge.with_label_values(&[topic]).set(standing.count(topic));
            }
        });
        Ok(Self { _watch: watch.map_err(Failure::no)? })
    }
}

fn gauge_labels(partitions: &[TopicPartition]) -> impl Iterator<Item = &str> {
    partitions.chunk_by(|a, b| a.topic == b.topic).filter_map(|of| of.first()).map(|first| &*first.topic)
}

/// The last stable offset and the written end, by partition.
fn look(log: &dyn Log, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, u64, u64)>, LogError> {
    // The end first: a transaction that ends in between must not look open.
    let written = log.written_ends(partitions)?;
    let stable = log.ends(partitions)?;
    Ok(partitions.iter().cloned().zip(stable).zip(written).map(|((at, stable), end)| (at, stable, end)).collect())
}

/// Reports everything that an operator needs to end it.
fn report(options: &KafkaOptions, hanging: &Hanging) {
    let Hanging { partition: TopicPartition { topic, partition }, offset, since } = hanging;
    let brokers = &options.brokers;
    let described = open_transactions(options, &hanging.partition);
    let of = described.as_ref().ok().and_then(|open| open.iter().find(|open| open.start_offset == *offset));
    let number = |value: Option<i64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let command = |rest: &str| format!("kafka-transactions.sh --bootstrap-server {brokers} {rest}");
    tracing::error!(
        topic = %topic,
        partition,
        offset,
        seconds = since.as_secs(),
        producer_id = number(of.map(|open: &OpenTransaction| open.producer_id)),
        producer_epoch = number(of.map(|open: &OpenTransaction| i64::from(open.producer_epoch))),
        coordinator_epoch = number(of.map(|open: &OpenTransaction| i64::from(open.coordinator_epoch))),
        unknown_because = described.as_ref().err().map(ToString::to_string),
        describe = command(&format!("describe-producers --topic {topic} --partition {partition}")),
        find = command(&format!("find-hanging --topic {topic} --partition {partition} --max-transaction-timeout 1")),
        abort = command(&format!("abort --topic {topic} --partition {partition} --start-offset {offset}")),
        "a transaction hangs: {topic}/{partition} cannot be read beyond offset {offset}; see \"Hanging \
         transactions\" in docs/operations.md before you abort it"
    );
}

/// A partition whose readers have not advanced for too long.
#[derive(Clone, Debug, PartialEq)]
struct Hanging {
    partition: TopicPartition,
    /// The offset of the readers: the first offset of the transaction.
    offset: u64,
    /// For how long.
    since: Duration,
}

/// The reports due after a check.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    hanging: Vec<Hanging>,
    over: Vec<TopicPartition>,
}

/// The partitions without progress.
struct Standing {
    patience: Duration,
    open: HashMap<TopicPartition, Stand>,
}

struct Stand {
    offset: u64,
    since: Instant,
    reported: Option<Instant>,
}

impl Standing {
    fn new(patience: Duration) -> Self {
        Self { patience, open: HashMap::new() }
    }

    /// Records the result of a check.
    fn observe(&mut self, found: &[(TopicPartition, u64, u64)], now: Instant) -> Changes {
        let mut changes = Changes::default();
        for (partition, stable, end) in found {
            let moved = self.open.get(partition).is_some_and(|stand| stand.offset != *stable);
            if (moved || stable >= end) && self.open.remove(partition).is_some_and(|former| former.reported.is_some()) {
                changes.over.push(partition.clone());
            }
            if stable >= end {
                continue;
            }
            let fresh = Stand { offset: *stable, since: now, reported: None };
            let stand = self.open.entry(partition.clone()).or_insert(fresh);
            let since = now.saturating_duration_since(stand.since);
            let is_due = stand.reported.is_none_or(|at| now.saturating_duration_since(at) >= REPEAT);
            if since > self.patience && is_due {
                stand.reported = Some(now);
                changes.hanging.push(Hanging { partition: partition.clone(), offset: *stable, since });
            }
        }
        changes
    }

    /// How many partitions of a topic are known to hang.
    fn count(&self, topic: &str) -> i64 {
        let hangs = |(at, stand): &(&TopicPartition, &Stand)| *at.topic == *topic && stand.reported.is_some();
        self.open.iter().filter(hangs).count() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32) -> TopicPartition {
        TopicPartition::new("counters", partition)
    }

    #[test]
    fn only_what_stands_still_for_too_long_hangs_and_is_reported_now_and_then() {
        let mut standing = Standing::new(Duration::from_secs(30));
        let start = Instant::now();
        let mut look = |seconds: u64, found: &[(TopicPartition, u64, u64)]| {
            let changes = standing.observe(found, start + Duration::from_secs(seconds));
            (
                changes.hanging.iter().map(|hanging| (hanging.offset, hanging.since.as_secs())).collect::<Vec<_>>(),
                changes.over.len(),
                standing.count("counters"),
            )
        };
        // Partition 1 moves on between the looks, whatever is open there.
        assert_eq!(look(0, &[(at(0), 7, 9), (at(1), 3, 4)]), (vec![], 0, 0));
        assert_eq!(look(30, &[(at(0), 7, 90), (at(1), 5, 6)]), (vec![], 0, 0));
        assert_eq!(look(31, &[(at(0), 7, 91), (at(1), 8, 9)]), (vec![(7, 31)], 0, 1));
        assert_eq!(look(40, &[(at(0), 7, 92), (at(1), 9, 9)]), (vec![], 0, 1));
        assert_eq!(look(331, &[(at(0), 7, 92), (at(1), 9, 9)]), (vec![(7, 331)], 0, 1));
        // Over, and another begins.
        assert_eq!(look(340, &[(at(0), 80, 92), (at(1), 9, 9)]), (vec![], 1, 0));
        assert_eq!(look(380, &[(at(0), 92, 92), (at(1), 9, 9)]), (vec![], 0, 0));
    }
}
