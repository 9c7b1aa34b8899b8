//! The newest records of a topic, in the order in which the log took them.

use super::{Header, Log, LogError, Polled, Record, TopicPartition};
use std::time::Duration;

/// How long records may take to come that are known to be there.
const READ_WAIT: Duration = Duration::from_secs(30);

/// A record that a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRecord {
    /// Its partition.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// When the log took it, milliseconds since 1970.
    pub append_time_ms: i64,
    /// See [`Record::key`].
    pub key: Option<Vec<u8>>,
    /// See [`Record::value`].
    pub value: Option<Vec<u8>>,
    /// In the order they were written.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl LoggedRecord {
    /// The headers, borrowed.
    pub fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }

    /// Bytes of key, value and headers.
    fn bytes(&self) -> usize {
        let lengths = [&self.key, &self.value].map(|part| part.as_ref().map_or(0, Vec::len));
        lengths.iter().sum::<usize>() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Keeps the newest records of those that it is given, up to a number and a size. In between it holds up to twice as much.
pub(super) struct Newest {
    records: Vec<LoggedRecord>,
    /// Bytes of `records`.
    bytes: usize,
    records_max: usize,
    bytes_max: usize,
}

impl Newest {
    pub fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records: Vec::new(), bytes: 0, records_max, bytes_max }
    }

    /// The offset from which a partition with this end can have some of them.
    pub fn from(&self, start: u64, end: u64) -> u64 {
        end.saturating_sub(self.records_max as u64).max(start)
    }

    pub fn add(&mut self, partition: u32, record: &Record<'_>) {
        let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec()));
        let record = LoggedRecord {
            partition,
            offset: record.offset,
            append_time_ms: record.append_time_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        };
        self.bytes += record.bytes();
        self.records.push(record);
        if self.records.len() > self.records_max.saturating_mul(2) || self.bytes > self.bytes_max.saturating_mul(2) {
            self.drop_older();
        }
    }

    fn drop_older(&mut self) {
        self.records.sort_by_key(|record| (record.append_time_ms, record.partition, record.offset));
        let (mut kept, mut bytes) = (0, 0);
        for record in self.records.iter().rev().take(self.records_max) {
            if bytes + record.bytes() > self.bytes_max {
                break;
            }
            (kept, bytes) = (kept + 1, bytes + record.bytes());
        }
        self.records.drain(..self.records.len() - kept);
        self.bytes = bytes;
    }

    /// The records, oldest first.
    pub fn finish(mut self) -> Vec<LoggedRecord> {
        self.drop_older();
        self.records
    }
}

/// The newest records of a topic by append time, oldest first; none of a topic that does not exist. Their keys, values and
/// headers together have at most `bytes_max` bytes.
pub fn newest_records(
    log: &dyn Log,
    topic: &str,
    records_max: usize,
    bytes_max: usize,
) -> Result<Vec<LoggedRecord>, LogError> {
    let mut newest = Newest::new(records_max, bytes_max);
    let partitions = match log.partitions(topic) {
        Ok(partitions) if records_max > 0 => partitions,
        Ok(_) | Err(LogError::UnknownTopic(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut consumer = log.consumer("")?;
    for partition in 0..partitions {
        let at = TopicPartition::new(topic, partition);
        let (start, end) = log.bounds(&at)?;
        let mut next = newest.from(start, end);
        consumer.assign(&at, next)?;
        while next < end {
            let Polled::Records { records, next_offset, .. } = consumer.poll(READ_WAIT)? else {
                return Err(LogError::Uncertain(format!("{at}@{next}: nothing came for 30 s")));
            };
            for record in records {
                newest.add(partition, &record?);
            }
            next = next_offset;
        }
        consumer.unassign(&at);
    }
    Ok(newest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Headers;

    fn kept(mut newest: Newest, records: &[(u32, u64, i64, usize)]) -> Vec<(u32, u64)> {
        for &(partition, offset, append_time_ms, bytes) in records {
            let value = vec![0; bytes];
            let headers = Headers::default();
            newest.add(partition, &Record { offset, append_time_ms, key: None, value: Some(&value), headers });
            assert!(newest.records.len() <= 2 * newest.records_max && newest.bytes <= 2 * newest.bytes_max);
        }
        newest.finish().iter().map(|record| (record.partition, record.offset)).collect()
    }

    #[test]
    fn the_newest_by_append_time_are_kept_up_to_a_number_and_a_size() {
        // One partition after the other, as they are read: partition 1 has the newest records.
        let records: Vec<_> = [(0, 100), (1, 150), (2, 0)]
            .into_iter()
            .flat_map(|(partition, from_ms)| (0..20).map(move |n| (partition, n, from_ms + n as i64, 10)))
            .collect();
        let newest = Newest::new;
        let last = |n: u64| (20 - n..20).map(|offset| (1, offset)).collect::<Vec<_>>();
        assert_eq!(kept(newest(5, 1_000), &records), last(5));
        assert_eq!(kept(newest(20, 69), &records), last(6), "by size");
        assert_eq!(kept(newest(25, 1_000), &records)[..5], [15, 16, 17, 18, 19].map(|offset| (0, offset)));
        assert_eq!(kept(newest(100, 10_000), &records).len(), 60);
        // No record is older than one that is left out.
        assert_eq!(kept(newest(9, 15), &[(0, 0, 1, 1), (0, 1, 2, 10), (0, 2, 3, 10)]), [(0, 2)]);
        assert_eq!(kept(newest(9, 15), &[(0, 0, 1, 16)]), []);
    }
}
