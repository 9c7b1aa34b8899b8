//! The control record: which generation runs, with which topology, and the secrets that belong to this log.
//!
//! The compacted topic `<application>-control` holds one record, key `control`, JSON. It is written by whoever comes
//! first, and afterwards only where a topology adds stores or subtopologies and somebody accepted that.

use crate::log::{Log, LogError, Polled, ProducerRecord, TopicPartition};
use crate::topology::{Difference, Fingerprint};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const KEY: &[u8] = b"control";
const VERSION: u32 = 1;
const READ_WAIT: Duration = Duration::from_secs(30);

/// What all processes of an application agree on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Version of this record's format.
    pub version: u32,
    /// Identifies one consistent set of state, internal topics and output tables.
    pub generation: u16,
    /// What the state was made with.
    pub fingerprint: Fingerprint,
    /// Random; tells this log from one that replaced it.
    pub log_id: [u8; 8],
    /// Random; signs receipts and seeds hashes.
    pub secret: [u8; 32],
}

impl Control {
    /// The seed of every hash in the state.
    pub fn hash_seed(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(&self.secret, 0x7a11)
    }
}

/// Why this topology cannot run on this log.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The log says so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state was made with another topology.
    #[error("the topology does not fit the state of generation {generation}:\n{}", .differences.join("\n"))]
    Differs {
        /// The generation that runs.
        generation: u16,
        /// What differs, and what to do.
        differences: Vec<String>,
    },
    /// The record cannot be read.
    #[error("{address}: the control record cannot be read: {reason}")]
    Unreadable {
        /// Where it is.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Reads the control record of an application and holds the topology against it; writes the first one with `random`.
pub fn establish(
    log: &dyn Log,
    application: &str,
    fingerprint: &Fingerprint,
    accept_added: bool,
    random: [u8; 40],
) -> Result<Control, ControlError> {
    let topic = format!("{application}-control");
    let (log_id, secret) = random.split_at(8);
    let mut control = match read(log, &topic)? {
        Some(control) => control,
        None => Control {
            version: VERSION,
            generation: 1,
            fingerprint: fingerprint.clone(),
            log_id: log_id.try_into().unwrap_or_default(),
            secret: secret.try_into().unwrap_or_default(),
        },
    };
    let running = control.fingerprint.clone();
    match fingerprint.compare(&running) {
        Difference::Same if read(log, &topic)?.is_some() => return Ok(control),
        Difference::Same => {}
        Difference::Added(_) if accept_added => control.fingerprint = fingerprint.clone(),
        Difference::Added(differences) | Difference::Changed(differences) => {
            return Err(ControlError::Differs { generation: control.generation, differences });
        }
    }
    write(log, application, &topic, &control)?;
    Ok(control)
}

fn read(log: &dyn Log, topic: &str) -> Result<Option<Control>, ControlError> {
    let partition = TopicPartition::new(topic, 0);
    let (start, end) = log.bounds(&partition)?;
    let mut consumer = log.consumer("")?;
    consumer.assign(&partition, start)?;
    let (mut next, mut found) = (start, None);
    while next < end {
        let Polled::Records { records, next_offset, .. } = consumer.poll(READ_WAIT)? else {
            return Err(LogError::Uncertain(format!("{partition}@{next}: nothing came for 30 s")).into());
        };
        for record in records {
            let record = record?;
            let unreadable =
                |reason: String| ControlError::Unreadable { address: format!("{partition}@{}", record.offset), reason };
            if record.key == Some(KEY) {
                let control: Control =
                    serde_json::from_slice(record.value.unwrap_or_default()).map_err(|e| unreadable(e.to_string()))?;
                if control.version > VERSION {
                    return Err(unreadable(format!("version {} needs a newer tally", control.version)));
                }
                found = Some(control);
            }
        }
        next = next_offset;
    }
    Ok(found)
}

fn write(log: &dyn Log, application: &str, topic: &str, control: &Control) -> Result<(), ControlError> {
    let mut producer = log.producer(&format!("{application}-control"))?;
    let value = serde_json::to_vec(control).map_err(|e| LogError::Fatal(e.to_string()))?;
    producer.send(ProducerRecord { topic, partition: 0, key: Some(KEY), value: Some(&value), headers: &[] })?;
    Ok(producer.commit()?)
}
