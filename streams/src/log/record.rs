//! Records as they are read and written.

use std::fmt;
use std::sync::Arc;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// From 0.
    pub partition: u32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A name and bytes that travel with a record.
pub type Header<'a> = (&'a str, &'a [u8]);

/// A record as read. Borrowed from the consumer's buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: u64,
    /// Milliseconds since 1970, set by the log when it took the record.
    pub append_time_ms: i64,
    /// None and empty differ.
    pub key: Option<&'a [u8]>,
    /// None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// In the order they were written.
    pub headers: Headers<'a>,
}

/// The headers of a record, decoded on demand: most readers never read them.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// A sequence of `name length: u8, name, value length: u16 LE, value`.
    Encoded(&'a [u8]),
    List(&'a dyn HeaderList),
}

/// Headers in an engine's own format.
pub trait HeaderList {
    /// The header at an index; None after the last one.
    fn header(&self, index: usize) -> Option<Header<'_>>;
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::encoded(&[])
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a> Headers<'a> {
    /// Headers out of the bytes that [`Headers::encode`] made.
    pub fn encoded(bytes: &'a [u8]) -> Self {
        Self(Source::Encoded(bytes))
    }

    /// Headers that are looked up in a list.
    pub fn listed(list: &'a dyn HeaderList) -> Self {
        Self(Source::List(list))
    }

    /// Encodes headers. Names are at most 255 bytes and values at most 65,535: longer ones are cut.
    pub fn encode(headers: &[Header<'_>], out: &mut Vec<u8>) {
        for (name, value) in headers {
            let (name, value) = (&name.as_bytes()[..name.floor_char_boundary(255)], &value[..value.len().min(65_535)]);
            out.push(name.len() as u8);
            out.extend_from_slice(name);
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(value);
        }
    }

    /// The first header of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// All headers. Ends early where the bytes are damaged.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let (mut source, mut index) = (self.0, 0..);
        std::iter::from_fn(move || match &mut source {
            Source::Encoded(rest) => decode_header(rest),
            Source::List(list) => list.header(index.next()?),
        })
    }
}

/// Takes a header off encoded ones.
fn decode_header<'a>(rest: &mut &'a [u8]) -> Option<Header<'a>> {
    let (&n, tail) = rest.split_first()?;
    let (name, tail) = tail.split_at_checked(n as usize)?;
    let (len, tail) = tail.split_first_chunk::<2>()?;
    let (value, tail) = tail.split_at_checked(u16::from_le_bytes(*len) as usize)?;
    *rest = tail;
    Some((std::str::from_utf8(name).ok()?, value))
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct ProducerRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; the sender computes it ([`partition_of`](super::partition_of)), the log never guesses.
    pub partition: u32,
    /// None and empty differ.
    pub key: Option<&'a [u8]>,
    /// None is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// See [`Headers`] for limits.
    pub headers: &'a [Header<'a>],
}

/// Records for [`Appender::append`](super::Appender::append), packed into one buffer.
#[derive(Default)]
pub struct AppendBatch {
    /// `(partition, encoded record)` in order; see [`AppendBatch::push`].
    pub records: Vec<OwnedRecord>,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedRecord {
    /// The partition it goes to.
    pub partition: u32,
    /// None and empty differ.
    pub key: Option<bytes::Bytes>,
    /// None is a tombstone.
    pub value: Option<bytes::Bytes>,
    /// Encoded headers, see [`Headers`].
    pub headers: bytes::Bytes,
}

impl AppendBatch {
    /// Adds a record.
    pub fn push(&mut self, record: OwnedRecord) {
        self.records.push(record);
    }

    /// The approximate size of the records in a queue.
    pub fn len_bytes(&self) -> usize {
        let part = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        self.records.iter().map(|r| 16 + part(&r.key) + part(&r.value) + r.headers.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pairs(Vec<(String, Vec<u8>)>);

    impl HeaderList for Pairs {
        fn header(&self, index: usize) -> Option<Header<'_>> {
            self.0.get(index).map(|(name, value)| (name.as_str(), value.as_slice()))
        }
    }

    #[test]
    fn encoded_and_listed_headers_are_equal() {
        let (mut bytes, headers) = (Vec::new(), [("a", b"1".as_slice()), ("b", b""), ("a", b"2")]);
        Headers::encode(&headers, &mut bytes);
        let list = Pairs(headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect());
        let (encoded, listed) = (Headers::encoded(&bytes), Headers::listed(&list));
        assert_eq!(encoded, listed);
        assert_eq!(listed.iter().collect::<Vec<_>>(), headers);
        assert_eq!([encoded.get("a"), listed.get("a"), listed.get("c")], [Some(b"1".as_slice()), Some(b"1"), None]);
    }
}
