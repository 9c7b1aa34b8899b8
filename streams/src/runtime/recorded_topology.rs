//! The file of the topology that runs, beside the control record: what a changed file is compared with.

use super::control::{Control, newest_value};
use crate::log::{Log, LogError, ProducerRecord};

/// The key of the record, in the topic of the control record.
pub const TOPOLOGY_KEY: &[u8] = b"topology";

/// The file that a process recorded last; None where none did.
pub fn recorded_topology(log: &dyn Log, application: &str) -> Result<Option<String>, LogError> {
    let (topic, _) = Control::place(application);
    match newest_value(log, &topic, TOPOLOGY_KEY) {
        Ok(found) => Ok(found.map(|(_, value)| String::from_utf8_lossy(&value).into_owned())),
        Err(LogError::UnknownTopic(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records the file, unless it is the recorded one. Of several processes that record at the same time, one succeeds.
pub fn record_topology(log: &dyn Log, application: &str, file: &str) -> Result<(), LogError> {
    if recorded_topology(log, application)?.as_deref() == Some(file) {
        return Ok(());
    }
    let (topic, _) = Control::place(application);
    let mut producer = log.producer(&topic)?;
    let (key, value) = (Some(TOPOLOGY_KEY), Some(file.as_bytes()));
    producer.send(ProducerRecord { topic: &topic, partition: 0, key, value, headers: &[] })?;
    producer.commit()
}
