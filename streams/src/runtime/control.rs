//! The control record: which generation runs, with which topology, and the secrets that belong to this log.
//!
//! The compacted topic `<application>-control` holds this record, key `control`, JSON. The first process writes it;
//! afterwards it changes only when an operator accepts additions to the topology, raises the wire version or confirms
//! the clock.

use crate::log::{Log, LogError, Polled, ProducerRecord, TopicPartition, TransactionalProducer};
use crate::task::ConfirmedTime;
use crate::topology::{Difference, Fingerprint};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The default of records without the field: they were written before there was a second version.
const fn first_wire_version() -> u8 {
    1
}

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
    /// The version of every envelope that is written, until an operator raises it.
    #[serde(default = "first_wire_version")]
    pub wire_version: u8,
    /// What the state was made with.
    pub fingerprint: Fingerprint,
    /// Random; distinguishes this log from one that replaced it.
    pub log_id: [u8; 8],
    /// Random; signs receipts and seeds hashes.
    pub secret: [u8; 32],
    /// What operators have confirmed of the log's time, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confirmed_times: Vec<ConfirmedTime>,
}

impl Control {
    /// The topic of an application's control record, and the record's key.
    pub fn place(application: &str) -> (String, &'static [u8]) {
        (format!("{application}-control"), KEY)
    }

    /// Reads a record. The error is for people.
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let control: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        match control.version {
            ..=VERSION => Ok(control),
            newer => Err(format!("version {newer} needs a newer tally")),
        }
    }

    /// Refuses a record that demands a wire version which this program does not write.
    pub fn check_wire_version(&self, known: RangeInclusive<u8>) -> Result<(), ControlError> {
        let written = self.wire_version;
        if known.contains(&written) { Ok(()) } else { Err(ControlError::WireVersion { written, known }) }
    }

    /// The seed of every hash in the state.
    pub fn hash_seed(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(&self.secret, 0x7a11)
    }
}

/// What a process proposes for the record.
#[derive(Clone, Debug)]
pub struct Proposal<'a> {
    /// The fingerprint of its topology.
    pub fingerprint: &'a Fingerprint,
    /// The wire versions that the process can write.
    pub wire_versions: RangeInclusive<u8>,
    /// Stores and subtopologies that the record does not have are added to it.
    pub accept_added: bool,
    /// The newest version is written from now on. Processes that run learn of it when they start again.
    pub raise_wire_version: bool,
    /// For the first record.
    pub random: [u8; 40],
}

/// Why this program cannot run this topology on this log.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// An error of the log.
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
    /// The records are written in a version that this program cannot write.
    #[error("{}", wire_version_refused(*.written, .known))]
    WireVersion {
        /// The version in the record.
        written: u8,
        /// What this program can write.
        known: RangeInclusive<u8>,
    },
    /// The record cannot be read.
    #[error("{address}: the control record cannot be read: {reason}")]
    Unreadable {
        /// Where it is.
        address: String,
        /// The reason.
        reason: String,
    },
}

fn wire_version_refused(written: u8, known: &RangeInclusive<u8>) -> String {
    let (oldest, newest) = (known.start(), known.end());
    if written > *newest {
        return format!(
            "records are written in wire version {written}, and this tally knows up to {newest}: run a newer one"
        );
    }
    format!(
        "records are written in wire version {written}, and this tally writes from {oldest} on: run the release before \
         this one, and when all processes run it, once with `--raise-wire-version`"
    )
}

/// Reads the control record of an application and checks a process against it; writes the first record.
///
/// Processes may do so at the same time: a writer first takes over the transactional id `<application>-control`, which
/// ends other open transactions under it, and reads again before it writes. So the first record wins.
pub fn establish(log: &dyn Log, application: &str, proposal: &Proposal<'_>) -> Result<Control, ControlError> {
    let topic = format!("{application}-control");
    let deadline = Instant::now() + CONTEST_MAX;
    // Each process takes the id from the others, so retries are at random times.
    let mut turns =
        proposal.random.iter().cycle().map(|byte| CONTEST_STEP + Duration::from_millis(u64::from(*byte) * 8));
    loop {
        if let Some(control) = read(log, &topic)?
            && let (control, false) = fit(control, proposal)?
        {
            return Ok(control);
        }
        match contend(log, application, &topic, proposal) {
            Err(ControlError::Log(error)) if passes(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, "another process writes the control record");
                std::thread::sleep(turns.next().unwrap_or(CONTEST_STEP));
            }
            outcome => return outcome,
        }
    }
}

/// Whether another process's write explains an error.
fn passes(error: &LogError) -> bool {
    matches!(error, LogError::Aborted(_) | LogError::Fenced(_) | LogError::Uncertain(_) | LogError::Unavailable(_))
}

/// The new record, and whether it differs from the stored one.
fn fit(mut control: Control, proposal: &Proposal<'_>) -> Result<(Control, bool), ControlError> {
    let known = &proposal.wire_versions;
    control.check_wire_version(known.clone())?;
    let raised = proposal.raise_wire_version && control.wire_version < *known.end();
    if raised {
        control.wire_version = *known.end();
    }
    match proposal.fingerprint.compare(&control.fingerprint) {
        Difference::Same => Ok((control, raised)),
        Difference::Added(_) if proposal.accept_added => {
            control.fingerprint = proposal.fingerprint.clone();
            Ok((control, true))
        }
        Difference::Added(differences) | Difference::Changed(differences) => {
            Err(ControlError::Differs { generation: control.generation, differences })
        }
    }
}

/// Writes the record if it is missing or lacks what was added or raised, unless another process has done so.
fn contend(log: &dyn Log, application: &str, topic: &str, proposal: &Proposal<'_>) -> Result<Control, ControlError> {
    let mut producer = log.producer(&format!("{application}-control"))?;
    // Whatever others have committed under this id shows now, and they can commit nothing more.
    let control = match read(log, topic)? {
        Some(control) => match fit(control, proposal)? {
            (control, true) => control,
            (control, false) => return Ok(control),
        },
        None => {
            let (log_id, secret) = proposal.random.split_at(8);
            Control {
                version: VERSION,
                generation: 1,
                wire_version: *proposal.wire_versions.end(),
                fingerprint: proposal.fingerprint.clone(),
                log_id: log_id.try_into().unwrap_or_default(),
                secret: secret.try_into().unwrap_or_default(),
                confirmed_times: Vec::new(),
            }
        }
    };
    write(producer.as_mut(), topic, &control)?;
    Ok(control)
}

fn write(producer: &mut dyn TransactionalProducer, topic: &str, control: &Control) -> Result<(), LogError> {
    let value = serde_json::to_vec(control).map_err(|e| LogError::Fatal(e.to_string()))?;
    producer.send(ProducerRecord { topic, partition: 0, key: Some(KEY), value: Some(&value), headers: &[] })?;
    producer.commit()
}

/// Adds a confirmed clock to the existing control record.
pub fn confirm(log: &dyn Log, application: &str, times: Vec<ConfirmedTime>) -> Result<Control, ControlError> {
    let topic = format!("{application}-control");
    let mut producer = log.producer(&topic)?;
    let missing = || LogError::Uncertain(format!("{topic} has no control record"));
    let mut control = read(log, &topic)?.ok_or_else(missing)?;
    control.confirmed_times.extend(times);
    write(producer.as_mut(), &topic, &control)?;
    Ok(control)
}

/// Gives the log of an application another id, because its records end earlier than they once did: it was restored from a
/// backup. Receipts with the former id are then those of another log. The secret stays, since it also seeds the hashes in the
/// state, and signs collects that wait in the log.
pub fn renew_log_id(log: &dyn Log, application: &str, log_id: [u8; 8]) -> Result<Control, ControlError> {
    let topic = format!("{application}-control");
    let mut producer = log.producer(&topic)?;
    let missing = || LogError::Uncertain(format!("{topic} has no control record"));
    let control = Control { log_id, ..read(log, &topic)?.ok_or_else(missing)? };
    write(producer.as_mut(), &topic, &control)?;
    Ok(control)
}

/// The control record of an application; None where no process has written it.
pub fn newest_control(log: &dyn Log, application: &str) -> Result<Option<Control>, ControlError> {
    match read(log, &Control::place(application).0) {
        Err(ControlError::Log(LogError::UnknownTopic(_))) => Ok(None),
        outcome => outcome,
    }
}

fn read(log: &dyn Log, topic: &str) -> Result<Option<Control>, ControlError> {
    let Some((offset, value)) = newest_value(log, topic, KEY)? else { return Ok(None) };
    let unreadable = |reason| ControlError::Unreadable { address: format!("{topic}/0@{offset}"), reason };
    Control::decode(&value).map(Some).map_err(unreadable)
}

/// The newest value of a key in the first partition of a topic, and its offset.
pub(super) fn newest_value(log: &dyn Log, topic: &str, key: &[u8]) -> Result<Option<(u64, Vec<u8>)>, LogError> {
    let partition = TopicPartition::new(topic, 0);
    let (start, end) = log.bounds(&partition)?;
    let mut consumer = log.consumer("")?;
    consumer.assign(&partition, start)?;
    let (mut next, mut found) = (start, None);
    while next < end {
        let Polled::Records { records, next_offset, .. } = consumer.poll(READ_WAIT)? else {
            return Err(LogError::Uncertain(format!("{partition}@{next}: nothing came for 30 s")));
        };
        for record in records {
            let record = record?;
            if record.key == Some(key) {
                found = Some((record.offset, record.value.unwrap_or_default().to_vec()));
            }
        }
        next = next_offset;
    }
    Ok(found)
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
