//! The entries of a changelog record: what a commit did to the stores of a task.
//!
//! A body is a sequence of sections: length of the store's name (1 byte), the name, number of entries (u32 LE), entries.
//! An entry is a tag (1 byte), then by tag: put: key, value; delete: key; delta: key, value; drop_segment: u64 LE;
//! snapshot_end: u64 LE, in a section without a name. Keys and values are a LEB128 length and bytes.

/// One entry, borrowed from the record.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangelogEntry<'a> {
    /// The key has this value now.
    Put {
        /// The key as stored.
        key: &'a [u8],
        /// The value as stored.
        value: &'a [u8],
    },
    /// The key was deleted.
    Delete {
        /// The key as stored.
        key: &'a [u8],
    },
    /// The value takes these items in.
    Delta {
        /// The key as stored.
        key: &'a [u8],
        /// u64 LE each; in a [`DeltaStore`](super::DeltaStore) the value's own bytes.
        items: &'a [u8],
    },
    /// All segments below were dropped.
    DropSegments {
        /// The first segment that stays.
        before: u64,
    },
    /// A snapshot that began at this offset of the changelog is complete.
    SnapshotEnd {
        /// Records below it are not needed any more.
        first_offset: u64,
    },
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
const DELTA: u8 = 2;
const DROP_SEGMENTS: u8 = 3;
// 4 was never written.
const SNAPSHOT_END: u8 = 5;

/// Collects the entries of a commit, in bodies of bounded size.
pub struct ChangelogWriter {
    bodies: Vec<Vec<u8>>,
    /// Of the bodies.
    bytes: usize,
    body: Vec<u8>,
    body_bytes_max: usize,
    /// Where the open section's number of entries stands, and its name.
    section: Option<(usize, u32)>,
    store: String,
}

impl ChangelogWriter {
    /// Bodies are cut when they reach `body_bytes_max`.
    pub fn new(body_bytes_max: usize) -> Self {
        Self { bodies: Vec::new(), bytes: 0, body: Vec::new(), body_bytes_max, section: None, store: String::new() }
    }

    /// The entries that follow belong to this store.
    pub fn begin(&mut self, store: &str) {
        self.end_section();
        self.store.clear();
        self.store.push_str(store);
    }

    /// See [`ChangelogEntry::Put`]. The two functions append key and value.
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        self.entry(PUT);
        write_part(&mut self.body, key);
        write_part(&mut self.body, value);
    }

    /// See [`ChangelogEntry::Delete`]. The function appends the key.
    pub fn delete(&mut self, key: impl FnOnce(&mut Vec<u8>)) {
        self.entry(DELETE);
        write_part(&mut self.body, key);
    }

    /// See [`ChangelogEntry::Delta`]. The function appends the key.
    pub fn delta(&mut self, key: impl FnOnce(&mut Vec<u8>), items: impl ExactSizeIterator<Item = u64>) {
        self.entry(DELTA);
        write_part(&mut self.body, key);
        write_len(&mut self.body, items.len() * 8);
        items.for_each(|item| self.body.extend_from_slice(&item.to_le_bytes()));
    }

    /// A [`ChangelogEntry::Delta`] of any bytes. The function appends the key.
    pub fn delta_bytes(&mut self, key: impl FnOnce(&mut Vec<u8>), delta: &[u8]) {
        self.entry(DELTA);
        write_part(&mut self.body, key);
        write_len(&mut self.body, delta.len());
        self.body.extend_from_slice(delta);
    }

    /// See [`ChangelogEntry::DropSegments`].
    pub fn drop_segments(&mut self, before: u64) {
        self.entry(DROP_SEGMENTS);
        self.body.extend_from_slice(&before.to_le_bytes());
    }

    /// See [`ChangelogEntry::SnapshotEnd`]. It is the task's: its section has no name.
    pub fn snapshot_end(&mut self, first_offset: u64) {
        self.begin("");
        self.entry(SNAPSHOT_END);
        self.body.extend_from_slice(&first_offset.to_le_bytes());
    }

    /// How many bytes the entries take so far.
    pub fn len_bytes(&self) -> usize {
        self.bytes + self.body.len()
    }

    /// The bodies, the last one perhaps short; none where there was no entry.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        self.end_section();
        if !self.body.is_empty() {
            self.bodies.push(self.body);
        }
        self.bodies
    }

    fn entry(&mut self, tag: u8) {
        if self.body.len() >= self.body_bytes_max {
            self.end_section();
            self.bytes += self.body.len();
            self.bodies.push(std::mem::take(&mut self.body));
        }
        match &mut self.section {
            Some((_, count)) => *count += 1,
            None => {
                let name = &self.store.as_bytes()[..self.store.len().min(255)];
                self.body.push(name.len() as u8);
                self.body.extend_from_slice(name);
                self.section = Some((self.body.len(), 1));
                self.body.extend_from_slice(&[0; 4]);
            }
        }
        self.body.push(tag);
    }

    fn end_section(&mut self) {
        if let Some((at, count)) = self.section.take() {
            self.body[at..at + 4].copy_from_slice(&count.to_le_bytes());
        }
    }
}

/// Reads a body: an iterator over (store name, entry). After an error it ends.
pub struct ChangelogReader<'a> {
    rest: &'a [u8],
    store: &'a str,
    left: u32,
}

impl<'a> ChangelogReader<'a> {
    /// From the start of a body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body, store: "", left: 0 }
    }

    fn read(&mut self) -> Option<(&'a str, ChangelogEntry<'a>)> {
        while self.left == 0 {
            let [len] = *self.take_chunk::<1>()?;
            self.store = std::str::from_utf8(self.take(len as usize)?).ok()?;
            self.left = u32::from_le_bytes(*self.take_chunk()?);
        }
        self.left -= 1;
        let [tag] = *self.take_chunk::<1>()?;
        let entry = match tag {
            PUT => ChangelogEntry::Put { key: self.bytes()?, value: self.bytes()? },
            DELETE => ChangelogEntry::Delete { key: self.bytes()? },
            DELTA => ChangelogEntry::Delta { key: self.bytes()?, items: self.bytes()? },
            DROP_SEGMENTS => ChangelogEntry::DropSegments { before: u64::from_le_bytes(*self.take_chunk()?) },
            SNAPSHOT_END => ChangelogEntry::SnapshotEnd { first_offset: u64::from_le_bytes(*self.take_chunk()?) },
            _ => return None,
        };
        Some((self.store, entry))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    fn take_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let mut len = 0usize;
        for shift in (0..35).step_by(7) {
            let [byte] = *self.take_chunk::<1>()?;
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return self.take(len);
            }
        }
        None
    }
}

impl<'a> Iterator for ChangelogReader<'a> {
    type Item = Result<(&'a str, ChangelogEntry<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.rest.is_empty() {
            return None;
        }
        let at = self.rest.len();
        let entry = self.read();
        if entry.is_none() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(entry.ok_or_else(|| format!("changelog entry {at} bytes before the end of the record cannot be read")))
    }
}

/// The items of a [`ChangelogEntry::Delta`]; None where they do not fill whole numbers.
pub(super) fn read_items(bytes: &[u8]) -> Option<Vec<u64>> {
    let (items, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| items.iter().map(|item| u64::from_le_bytes(*item)).collect())
}

fn write_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Length and bytes of what `part` appends.
fn write_part(out: &mut Vec<u8>, part: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    // Nearly all are short: their length takes one byte.
    out.push(0);
    part(out);
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return;
    }
    let mut length = Vec::new();
    write_len(&mut length, len);
    out.splice(at..=at, length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
        |out| out.extend_from_slice(bytes)
    }

    fn body() -> Vec<u8> {
        let mut writer = ChangelogWriter::new(1 << 19);
        writer.begin("fresh");
        writer.put(bytes(b"k1"), bytes(b""));
        writer.drop_segments(9);
        writer.begin("nothing");
        writer.begin("totals");
        writer.delete(bytes(b"k2"));
        writer.delta(bytes(b"k3"), [1u64, 2].into_iter());
        let mut bodies = writer.finish();
        assert_eq!(bodies.len(), 1);
        bodies.remove(0)
    }

    #[test]
    fn the_body_is_what_it_has_always_been() {
        let golden = [
            b"\x05fresh\x02\0\0\0\x00\x02k1\x00\x03\x09\0\0\0\0\0\0\0".as_slice(),
            b"\x06totals\x02\0\0\0\x01\x02k2\x02\x02k3\x10\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0",
        ];
        assert_eq!(body(), golden.concat());
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let body = body();
        let entries: Vec<_> = ChangelogReader::new(&body).map(Result::unwrap).collect();
        let items = [1u64.to_le_bytes(), 2u64.to_le_bytes()].concat();
        assert_eq!(
            entries,
            [
                ("fresh", ChangelogEntry::Put { key: b"k1", value: b"" }),
                ("fresh", ChangelogEntry::DropSegments { before: 9 }),
                ("totals", ChangelogEntry::Delete { key: b"k2" }),
                ("totals", ChangelogEntry::Delta { key: b"k3", items: &items }),
            ]
        );
    }

    #[test]
    fn the_end_of_a_snapshot_is_what_it_has_always_been() {
        let mut writer = ChangelogWriter::new(1 << 19);
        writer.begin("s");
        writer.put(bytes(b"k"), bytes(b"v"));
        writer.snapshot_end(7);
        let body = writer.finish().remove(0);
        assert_eq!(body, b"\x01s\x01\0\0\0\x00\x01k\x01v\0\x01\0\0\0\x05\x07\0\0\0\0\0\0\0");
        let entries: Vec<_> = ChangelogReader::new(&body).map(Result::unwrap).collect();
        let put = ChangelogEntry::Put { key: b"k", value: b"v" };
        assert_eq!(entries, [("s", put), ("", ChangelogEntry::SnapshotEnd { first_offset: 7 })]);
    }

    #[test]
    fn damage_is_an_error_and_then_the_end() {
        let body = body();
        for len in 1..body.len() {
            let mut reader = ChangelogReader::new(&body[..len]);
            let errors = reader.by_ref().filter(Result::is_err).count();
            // A cut right behind a whole section cannot be distinguished from a shorter body: the envelope's checksum can.
            assert!(errors == 1 || len == 24, "cut at {len}");
            assert!(reader.next().is_none());
        }
    }

    #[test]
    fn large_commits_are_cut_and_nothing_is_lost() {
        let mut writer = ChangelogWriter::new(100);
        writer.begin("fresh");
        (0..50u8).for_each(|i| writer.put(bytes(&[i]), bytes(b"0123456789")));
        let bodies = writer.finish();
        assert!(bodies.len() > 3);
        let keys = bodies.iter().flat_map(|b| ChangelogReader::new(b)).map(|entry| match entry {
            Ok(("fresh", ChangelogEntry::Put { key, .. })) => key[0],
            other => panic!("{other:?}"),
        });
        assert_eq!(keys.collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn long_keys_and_values_have_longer_lengths() {
        for len in [0x7f, 0x80, 0x3fff, 0x4000, 70_000] {
            let (key, value) = (vec![1; len], vec![2; len]);
            let mut writer = ChangelogWriter::new(1 << 19);
            writer.begin("fresh");
            writer.put(bytes(&key), bytes(&value));
            let body = writer.finish().remove(0);
            let (_, entry) = ChangelogReader::new(&body).next().unwrap().unwrap();
            assert_eq!(entry, ChangelogEntry::Put { key: &key, value: &value });
        }
    }
}
