//! Changes: what counting nodes send to the totals and boards of a subject, and their format in a repartition topic.
//!
//! Changes are combined per commit and destination before they are sent, so one hot article costs a record per task and
//! commit, not one per like. The body of a hop record is postcard: the metrics' names once, the number of subjects,
//! then each subject with its deltas and visitors (`docs/wire.md`).

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Whole minutes since 1970. Windows are multiples of a minute.
pub type Minute = i64;

/// The most visitor hashes in one entry, so that one hot subject cannot make a part too large.
pub(crate) const HASHES_PER_ENTRY_MAX: usize = 16 << 10;

/// The name under which a metric is counted within a group, the value of a property. No other metric has such a name,
/// and nodes ignore metrics that they do not know.
pub fn grouped_metric(metric: &str, property: &str, value: &str) -> String {
    format!("{metric}\0{property}={value}")
}

/// A change to one metric of one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The subject.
    pub subject_id: Arc<str>,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The change.
    pub body: ChangeBody,
}

/// The content of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeBody {
    /// Something is counted, or a count is undone.
    Delta {
        /// When it happened. A retraction carries the minute of what it retracts.
        minute: Minute,
        /// The windows of totals ignore it: the minute lies so far back that they may be closed.
        total_only: bool,
        /// Usually +1 or -1.
        delta: i64,
    },
    /// A visit by an actor.
    Visitor {
        /// Length and start of the window in ms; none is all time.
        window: Option<(i64, i64)>,
        /// 64-bit hash of the visitor.
        hash: u64,
    },
}

/// The combined changes of one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectChanges {
    /// The subject.
    pub subject_id: Arc<str>,
    /// One entry per (metric, minute, total_only), in order of first appearance.
    pub deltas: Vec<Delta>,
    /// One entry per (metric, window), in order of first appearance.
    pub visitors: Vec<Visitors>,
}

/// A sum of [`ChangeBody::Delta`]s.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// The metric's name.
    pub metric: Arc<str>,
    /// See [`ChangeBody::Delta`].
    pub minute: Minute,
    /// See [`ChangeBody::Delta`].
    pub total_only: bool,
    /// The sum.
    pub delta: i64,
}

/// A set of [`ChangeBody::Visitor`]s.
#[derive(Clone, Debug, PartialEq)]
pub struct Visitors {
    /// The metric's name.
    pub metric: Arc<str>,
    /// See [`ChangeBody::Visitor`].
    pub window: Option<(i64, i64)>,
    /// May repeat.
    pub hashes: Vec<u64>,
}

/// The error of an invalid hop body.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a body that cannot be read: {0}")]
pub struct WireError(pub String);

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metrics: Vec<Cow<'a, str>>,
    subjects: u32,
}

/// Length and start in ms; none is all time.
type Window = Option<(i64, i64)>;

#[derive(Serialize, Deserialize)]
struct Subject<'a> {
    subject_id: &'a str,
    /// (metric, minute, total_only, delta)
    deltas: Vec<(u16, Minute, bool, i64)>,
    /// (metric, window, hashes)
    visitors: Vec<(u16, Window, Cow<'a, [u64]>)>,
}

impl SubjectChanges {
    /// A subject without changes.
    pub fn new(subject_id: Arc<str>) -> Self {
        Self { subject_id, deltas: Vec::new(), visitors: Vec::new() }
    }

    /// Combines a change of this subject into the rest.
    pub fn add(&mut self, change: &Change) {
        let metric = &change.metric;
        match change.body {
            ChangeBody::Delta { minute, total_only, delta } => {
                let same =
                    |d: &&mut Delta| d.minute == minute && d.total_only == total_only && same_name(&d.metric, metric);
                // The newest minute is last: search there first.
                match self.deltas.iter_mut().rev().find(same) {
                    Some(entry) => entry.delta += delta,
                    None => self.deltas.push(Delta { metric: metric.clone(), minute, total_only, delta }),
                }
            }
            ChangeBody::Visitor { window, hash } => {
                let same = |v: &&mut Visitors| v.window == window && same_name(&v.metric, metric);
                match self.visitors.iter_mut().rev().find(same) {
                    Some(entry) => entry.hashes.push(hash),
                    None => self.visitors.push(Visitors { metric: metric.clone(), window, hashes: vec![hash] }),
                }
            }
        }
    }

    /// Whether nothing is left after combining: a like and its retraction within one commit.
    pub fn is_empty(&self) -> bool {
        self.visitors.is_empty() && self.deltas.iter().all(|d| d.delta == 0)
    }
}

/// Names are shared, so equal ones are mostly the same allocation.
fn same_name(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// Packs changes into bodies of about `bytes_max` each.
#[derive(Default)]
pub struct ChangesEncoder {
    metrics: Vec<Arc<str>>,
    subjects: u32,
    bytes: Vec<u8>,
}

impl ChangesEncoder {
    /// Adds a subject; emits a body when it is full.
    pub fn push(&mut self, changes: &mut SubjectChanges, bytes_max: usize, mut emit: impl FnMut(Vec<u8>)) {
        for visitors in &mut changes.visitors {
            visitors.hashes.sort_unstable();
            visitors.hashes.dedup();
        }
        let deltas: Vec<_> = changes.deltas.iter().filter(|d| d.delta != 0).collect();
        let deltas = deltas.into_iter().map(|d| (self.metric(&d.metric), d.minute, d.total_only, d.delta)).collect();
        self.push_entry(
            Subject { subject_id: &changes.subject_id, deltas, visitors: Vec::new() },
            bytes_max,
            &mut emit,
        );
        for visitors in &changes.visitors {
            for hashes in visitors.hashes.chunks(HASHES_PER_ENTRY_MAX) {
                let visitors = vec![(self.metric(&visitors.metric), visitors.window, Cow::Borrowed(hashes))];
                let entry = Subject { subject_id: &changes.subject_id, deltas: Vec::new(), visitors };
                self.push_entry(entry, bytes_max, &mut emit);
            }
        }
    }

    /// The last body, if there is one.
    pub fn finish(&mut self, mut emit: impl FnMut(Vec<u8>)) {
        if self.subjects == 0 {
            return;
        }
        let metrics = self.metrics.iter().map(|m| Cow::Borrowed(m.as_ref())).collect();
        let head = Head { metrics, subjects: self.subjects };
        // Only a failing writer fails here, and a vector does not.
        let mut body = postcard::to_allocvec(&head).unwrap_or_default();
        body.extend_from_slice(&self.bytes);
        *self = Self::default();
        emit(body);
    }

    fn metric(&mut self, name: &Arc<str>) -> u16 {
        let known = self.metrics.iter().position(|m| same_name(m, name));
        known.unwrap_or_else(|| {
            self.metrics.push(name.clone());
            self.metrics.len() - 1
        }) as u16
    }

    fn push_entry(&mut self, entry: Subject<'_>, bytes_max: usize, emit: &mut impl FnMut(Vec<u8>)) {
        if entry.deltas.is_empty() && entry.visitors.is_empty() {
            return;
        }
        if let Ok(bytes) = postcard::to_extend(&entry, std::mem::take(&mut self.bytes)) {
            self.bytes = bytes;
            self.subjects += 1;
        }
        if self.bytes.len() >= bytes_max {
            self.finish(emit);
        }
    }
}

/// Unpacks a body. Subjects may come more than once.
pub fn decode_changes(body: &[u8], mut each: impl FnMut(SubjectChanges)) -> Result<(), WireError> {
    let wrong = |e: postcard::Error| WireError(e.to_string());
    let (head, mut rest) = postcard::take_from_bytes::<Head<'_>>(body).map_err(wrong)?;
    let metrics: Vec<Arc<str>> = head.metrics.iter().map(|m| Arc::from(m.as_ref())).collect();
    let metric =
        |index: u16| metrics.get(index as usize).cloned().ok_or_else(|| WireError(format!("no metric {index}")));
    for _ in 0..head.subjects {
        let (subject, tail) = postcard::take_from_bytes::<Subject<'_>>(rest).map_err(wrong)?;
        rest = tail;
        let mut changes = SubjectChanges::new(subject.subject_id.into());
        for (index, minute, total_only, delta) in subject.deltas {
            changes.deltas.push(Delta { metric: metric(index)?, minute, total_only, delta });
        }
        for (index, window, hashes) in subject.visitors {
            changes.visitors.push(Visitors { metric: metric(index)?, window, hashes: hashes.into_owned() });
        }
        each(changes);
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(WireError(format!("{} bytes too many", rest.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(metric: &str, minute: Minute, delta: i64) -> Change {
        let body = ChangeBody::Delta { minute, total_only: false, delta };
        Change { subject_id: "article:7".into(), metric: metric.into(), body }
    }

    fn visitor(hash: u64) -> Change {
        let body = ChangeBody::Visitor { window: None, hash };
        Change { subject_id: "article:7".into(), metric: "visitors".into(), body }
    }

    fn encode(changes: &mut SubjectChanges, bytes_max: usize) -> Vec<Vec<u8>> {
        let (mut encoder, mut bodies) = (ChangesEncoder::default(), Vec::new());
        encoder.push(changes, bytes_max, |body| bodies.push(body));
        encoder.finish(|body| bodies.push(body));
        bodies
    }

    #[test]
    fn changes_of_a_minute_become_one() {
        let mut changes = SubjectChanges::new("article:7".into());
        for change in [delta("likes", 5, 1), delta("views", 5, 1), delta("likes", 5, 1), delta("likes", 6, -1)] {
            changes.add(&change);
        }
        let sums: Vec<_> = changes.deltas.iter().map(|d| (d.metric.as_ref(), d.minute, d.delta)).collect();
        assert_eq!(sums, [("likes", 5, 2), ("views", 5, 1), ("likes", 6, -1)]);
    }

    #[test]
    fn a_like_taken_back_at_once_is_nothing() {
        let mut changes = SubjectChanges::new("article:7".into());
        changes.add(&delta("likes", 5, 1));
        changes.add(&delta("likes", 5, -1));
        assert!(changes.is_empty());
        assert!(encode(&mut changes, 1 << 19).is_empty());
    }

    #[test]
    fn the_body_is_what_it_has_always_been() {
        let mut changes = SubjectChanges::new("article:7".into());
        changes.add(&delta("likes", 29_920_800, 3));
        changes.add(&visitor(300));
        let bodies = encode(&mut changes, 1 << 19);
        let golden = [
            b"\x02\x05likes\x08visitors\x02".as_slice(),
            b"\x09article:7\x01\x00\xc0\xb8\xc4\x1c\x00\x06\x00",
            b"\x09article:7\x00\x01\x01\x00\x01\xac\x02",
        ];
        assert_eq!(bodies, [golden.concat()]);
    }

    #[test]
    fn visitors_of_a_window_are_what_they_have_always_been() {
        let mut changes = SubjectChanges::new("article:7".into());
        let window = Some((86_400_000, 1_795_219_200_000));
        for (window, hash) in [(None, 300), (window, 300), (window, 301)] {
            let body = ChangeBody::Visitor { window, hash };
            changes.add(&Change { subject_id: "article:7".into(), metric: "visitors".into(), body });
        }
        let bodies = encode(&mut changes, 1 << 19);
        let golden = [
            b"\x01\x08visitors\x02".as_slice(),
            b"\x09article:7\x00\x01\x00\x00\x01\xac\x02",
            b"\x09article:7\x00\x01\x00\x01\x80\xf0\xb2\x52\x80\xe0\xb8\xb6\xbf\x68\x02\xac\x02\xad\x02",
        ];
        assert_eq!(bodies, [golden.concat()]);
        decode_changes(&bodies[0], |read| {
            assert!(read.visitors.iter().all(|visitors| changes.visitors.contains(visitors)), "{read:?}");
        })
        .unwrap();
    }

    #[test]
    fn what_boards_are_told_besides_is_what_it_has_always_been() {
        let mut changes = SubjectChanges::new("article:7".into());
        changes.add(&delta(&grouped_metric("likes", "section", "sports"), 29_920_800, 3));
        let body = ChangeBody::Visitor { window: Some((60_000, 1_795_248_000_000)), hash: 300 };
        changes.add(&Change { subject_id: "article:7".into(), metric: "likes".into(), body });
        let bodies = encode(&mut changes, 1 << 19);
        let golden = [
            b"\x02\x14likes\0section=sports\x05likes\x02".as_slice(),
            b"\x09article:7\x01\x00\xc0\xb8\xc4\x1c\x00\x06\x00",
            b"\x09article:7\x00\x01\x01\x01\xc0\xa9\x07\x80\xb0\xf4\xd1\xbf\x68\x01\xac\x02",
        ];
        assert_eq!(bodies, [golden.concat()]);
    }

    #[test]
    fn a_hot_subject_is_cut_into_parts_and_comes_out_whole() {
        let mut changes = SubjectChanges::new("article:7".into());
        (0..100_000u64).for_each(|i| changes.add(&visitor(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        let bodies = encode(&mut changes, 64 << 10);
        assert!(bodies.len() > 5 && bodies.iter().all(|b| b.len() < 300 << 10));
        let mut hashes = Vec::new();
        for body in bodies {
            decode_changes(&body, |c| c.visitors.into_iter().for_each(|v| hashes.extend(v.hashes))).unwrap();
        }
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 100_000);
    }

    #[test]
    fn damaged_bodies_are_errors() {
        let mut changes = SubjectChanges::new("article:7".into());
        changes.add(&delta("likes", 5, 1));
        let body = encode(&mut changes, 1 << 19).remove(0);
        for len in 0..body.len() {
            assert!(decode_changes(&body[..len], drop).is_err(), "cut at {len}");
        }
        let longer = [body.as_slice(), b"x"].concat();
        assert!(decode_changes(&longer, drop).is_err());
    }
}
