//! Whether what a target has was read from this log as it is now.

use crate::target::StoredPosition;
use tally_streams::log::{Log, LogError, TopicPartition};

/// Why a target that cannot be filled again from the topics is left alone.
pub fn beyond(log: &dyn Log, stored: &[StoredPosition]) -> Result<Option<String>, LogError> {
    let partitions: Vec<TopicPartition> = stored.iter().map(|position| position.partition.clone()).collect();
    let ends = log.ends(&partitions)?;
    let first = stored.iter().zip(ends).find(|(position, end)| position.next_offset > *end);
    Ok(first.map(|(StoredPosition { partition, next_offset, .. }, end)| {
        let topic = &partition.topic;
        format!(
            "{partition}: the target has read up to offset {next_offset}, and the topic ends at {end}. This is an older \
             copy of the log, or the topic was recreated. Restore the log, or the database from the same backup as the \
             log; for a topic that was recreated on purpose: DELETE FROM sink_progress WHERE topic = '{topic}' \
             (docs/operations.md, \"Position beyond the end\")"
        )
    }))
}
