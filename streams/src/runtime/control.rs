//! The control record: which generation runs, with which topology, and the secrets that belong to this log.
//!
//! The compacted topic `<application>-control` holds one record, key `control`, JSON. It is written by whoever comes
//! first, and afterwards only where a topology adds stores or subtopologies and somebody accepted that.

use crate::log::{Log, LogError, Polled, ProducerRecord, TopicPartition};
use crate::topology::{Difference, Fingerprint};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const KEY: &[u8] = b"control";
const VERSION: u32 = 1;
const READ_WAIT: Duration = Duration::from_secs(30);
/// How long several processes may contend for the first record, and between tries.
const CONTEST_MAX: Duration = Duration::from_secs(90);
const CONTEST_STEP: Duration = Duration::from_millis(100);

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
///
/// Processes may do so at the same time: whoever writes takes the transactional id `<application>-control` first, which
/// ends what others have open under it, and reads again before it writes. So the first record wins.
pub fn establish(
    log: &dyn Log,
    application: &str,
    fingerprint: &Fingerprint,
    accept_added: bool,
    random: [u8; 40],
) -> Result<Control, ControlError> {
    let topic = format!("{application}-control");
    let deadline = Instant::now() + CONTEST_MAX;
    // Each takes the id from the others, so they come back at times of their own.
    let mut turns = random.iter().cycle().map(|byte| CONTEST_STEP + Duration::from_millis(u64::from(*byte) * 8));
    loop {
        if let Some(control) = read(log, &topic)?
            && let (control, false) = fit(control, fingerprint, accept_added)?
        {
            return Ok(control);
        }
        match contend(log, application, &topic, fingerprint, accept_added, random) {
            Err(ControlError::Log(error)) if passes(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, "somebody else writes the control record");
                std::thread::sleep(turns.next().unwrap_or(CONTEST_STEP));
            }
            outcome => return outcome,
        }
    }
}

/// Whether somebody else's writing explains an error.
fn passes(error: &LogError) -> bool {
    matches!(error, LogError::Aborted(_) | LogError::Fenced(_) | LogError::Uncertain(_) | LogError::Unavailable(_))
}

/// The record as it is to be, and whether that differs from what is written.
fn fit(mut control: Control, fingerprint: &Fingerprint, accept_added: bool) -> Result<(Control, bool), ControlError> {
    match fingerprint.compare(&control.fingerprint) {
        Difference::Same => Ok((control, false)),
        Difference::Added(_) if accept_added => {
            control.fingerprint = fingerprint.clone();
            Ok((control, true))
        }
        Difference::Added(differences) | Difference::Changed(differences) => {
            Err(ControlError::Differs { generation: control.generation, differences })
        }
    }
}

/// Writes the record that is missing or lacks what was added, unless somebody else has done so.
fn contend(
    log: &dyn Log,
    application: &str,
    topic: &str,
    fingerprint: &Fingerprint,
    accept_added: bool,
    random: [u8; 40],
) -> Result<Control, ControlError> {
    let mut producer = log.producer(&format!("{application}-control"))?;
    // Whatever others have committed under this id shows now, and they can commit nothing more.
    let control = match read(log, topic)? {
        Some(control) => match fit(control, fingerprint, accept_added)? {
            (control, true) => control,
            (control, false) => return Ok(control),
        },
        None => {
            let (log_id, secret) = random.split_at(8);
            Control {
                version: VERSION,
                generation: 1,
                fingerprint: fingerprint.clone(),
                log_id: log_id.try_into().unwrap_or_default(),
                secret: secret.try_into().unwrap_or_default(),
            }
        }
    };
    let value = serde_json::to_vec(&control).map_err(|e| LogError::Fatal(e.to_string()))?;
    producer.send(ProducerRecord { topic, partition: 0, key: Some(KEY), value: Some(&value), headers: &[] })?;
    producer.commit()?;
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
