//! How far the input is contained in one partition of an output topic, by the marks of the tasks that write there.

use crate::progress::{ProgressMark, RootPosition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The greatest mark of every task that writes to a partition.
///
/// Most partitions have one writer. Where several tasks write to one (dead letters), each mark is valid for its own
/// task's records only, so the last mark alone would claim too much: what holds for all is the minimum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roots {
    generation: u16,
    tasks: BTreeMap<String, Vouched>,
}

/// The progress that a task guarantees.
#[derive(Clone, Debug, PartialEq)]
struct Vouched {
    /// generation << 48 | commit; without the commit where an older release has stored it.
    version: i64,
    roots: Vec<RootPosition>,
}

/// One line of the stored form; a reader that knows only [`RootPosition`] can read it and take the minimum.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(flatten)]
    position: RootPosition,
    #[serde(default)]
    task: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
}

const COMMIT_BITS: u32 = 48;

/// Whether a version names a commit.
fn names_commit(version: i64) -> bool {
    version & ((1 << COMMIT_BITS) - 1) != 0
}

impl Roots {
    /// Adds a mark unless there is a greater one of its task; returns whether it was added. The first mark of a new
    /// generation removes the marks of the previous one.
    pub fn apply(&mut self, mark: ProgressMark) -> bool {
        if mark.generation < self.generation {
            return false;
        }
        if mark.generation > self.generation {
            self.tasks.clear();
            self.generation = mark.generation;
        }
        let ProgressMark { task, roots, version, .. } = mark;
        if self.tasks.get(&task).is_some_and(|known| known.version > version) {
            return false;
        }
        self.tasks.insert(task, Vouched { version, roots });
        true
    }

    /// The version of a task's mark; None where it has none.
    pub fn version_of(&self, task: &str) -> Option<i64> {
        self.tasks.get(task).map(|known| known.version)
    }

    /// The greatest version among the marks; 0 without marks.
    pub fn newest(&self) -> i64 {
        self.tasks.values().map(|known| known.version).max().unwrap_or(0)
    }

    /// A number that rises whenever a mark does: two of the same history are the same where their numbers are.
    pub fn revision(&self) -> i64 {
        // What has no roots is not stored, and a number that only memory has could not be compared.
        let stored = self.tasks.values().filter(|known| !known.roots.is_empty());
        stored.fold(0, |sum, known| sum.wrapping_add(known.version))
    }

    /// Whether a mark names its commit: those that older releases have stored do not.
    pub fn names_commits(&self) -> bool {
        self.tasks.values().any(|known| !known.roots.is_empty() && names_commit(known.version))
    }

    /// The progress that all tasks guarantee together, ascending by partition.
    pub fn merged(&self) -> Vec<RootPosition> {
        let mut least = BTreeMap::<u32, RootPosition>::new();
        for root in self.tasks.values().flat_map(|known| &known.roots) {
            let entry = least.entry(root.partition).or_insert(*root);
            entry.next_offset = entry.next_offset.min(root.next_offset);
            entry.clock_ms = entry.clock_ms.min(root.clock_ms);
        }
        least.into_values().collect()
    }

    /// As stored: a JSON array of `{"partition","next_offset","clock_ms","task","version"}`.
    pub fn to_json(&self) -> String {
        let lines = self.tasks.iter().flat_map(|(task, Vouched { version, roots })| {
            let version = Some(*version).filter(|version| names_commit(*version));
            roots.iter().map(move |position| Line { position: *position, task: task.as_str().into(), version })
        });
        // Plain numbers and strings always become JSON.
        serde_json::to_string(&lines.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".into())
    }

    /// From the stored form. `generation` is that of lines without a version.
    pub fn from_json(json: &str, generation: u16) -> Result<Self, serde_json::Error> {
        let lines = serde_json::from_str::<Vec<Line<'_>>>(json)?;
        let versions = lines.iter().filter_map(|line| line.version);
        let generation = versions.map(|version| (version >> COMMIT_BITS) as u16).max().unwrap_or(generation);
        let mut tasks = BTreeMap::<String, Vouched>::new();
        for Line { position, task, version } in lines {
            let version = version.unwrap_or(i64::from(generation) << COMMIT_BITS);
            let known = tasks.entry(task.into_owned()).or_insert(Vouched { version, roots: Vec::new() });
            known.roots.push(position);
        }
        Ok(Self { generation, tasks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(partition: u32, next_offset: u64) -> RootPosition {
        RootPosition { partition, next_offset, clock_ms: next_offset as i64 * 10 }
    }

    fn mark(task: &str, generation: u16, roots: &[RootPosition]) -> ProgressMark {
        ProgressMark { task: task.into(), generation, roots: roots.to_vec(), version: i64::from(generation) << 48 }
    }

    #[test]
    fn the_last_mark_of_a_task_replaces_the_one_before() {
        let mut roots = Roots::default();
        roots.apply(mark("a/0", 1, &[root(0, 5), root(1, 7)]));
        roots.apply(mark("a/0", 1, &[root(0, 9), root(1, 8)]));
        assert_eq!(roots.merged(), [root(0, 9), root(1, 8)]);
    }

    #[test]
    fn several_writers_vouch_for_the_minimum() {
        let mut roots = Roots::default();
        roots.apply(mark("a/0", 1, &[root(0, 9)]));
        roots.apply(mark("a/1", 1, &[root(1, 3)]));
        roots.apply(mark("b/0", 1, &[root(0, 4), root(1, 6)]));
        assert_eq!(roots.merged(), [root(0, 4), root(1, 3)]);
        let again = Roots::from_json(&roots.to_json(), 1).unwrap();
        assert_eq!(again, roots);
    }

    #[test]
    fn a_new_generation_starts_over() {
        let mut roots = Roots::default();
        roots.apply(mark("a/0", 1, &[root(0, 9)]));
        roots.apply(mark("b/0", 2, &[root(0, 1)]));
        roots.apply(mark("a/0", 1, &[root(0, 10)]));
        assert_eq!(roots.merged(), [root(0, 1)]);
    }

    #[test]
    fn the_stored_form_is_what_it_has_always_been() {
        let mut roots = Roots::default();
        roots.apply(mark("a/0", 1, &[root(0, 9)]));
        assert_eq!(roots.to_json(), r#"[{"partition":0,"next_offset":9,"clock_ms":90,"task":"a/0"}]"#);
        let plain = serde_json::from_str::<Vec<RootPosition>>(&roots.to_json()).unwrap();
        assert_eq!(plain, [root(0, 9)]);
        assert!(Roots::from_json("{", 0).is_err());
    }

    fn versioned(task: &str, commit: i64, roots: &[RootPosition]) -> ProgressMark {
        ProgressMark { version: (1 << 48) + commit, ..mark(task, 1, roots) }
    }

    #[test]
    fn the_greatest_commit_stands_whatever_comes_last() {
        let mut roots = Roots::default();
        assert!(roots.apply(versioned("a/0", 9, &[root(0, 9)])));
        assert!(!roots.apply(versioned("a/0", 4, &[root(0, 5)])), "an older one that is read later");
        assert_eq!(roots.merged(), [root(0, 9)]);
        assert!(roots.apply(versioned("a/0", 10, &[root(0, 11)])));
        assert_eq!((roots.version_of("a/0"), roots.newest()), (Some((1 << 48) + 10), (1 << 48) + 10));
    }

    #[test]
    fn the_revision_rises_with_every_mark_and_is_stored() {
        let mut roots = Roots::default();
        let mut before = roots.revision();
        for (task, commit) in [("a/0", 9), ("b/0", 4), ("b/0", 5), ("a/0", 10)] {
            roots.apply(versioned(task, commit, &[root(0, commit as u64)]));
            assert_ne!(roots.revision(), before);
            before = roots.revision();
            assert_eq!(Roots::from_json(&roots.to_json(), 0).unwrap(), roots);
        }
        // A mark without progress is not stored.
        roots.apply(versioned("c/0", 7, &[]));
        assert_eq!(roots.revision(), Roots::from_json(&roots.to_json(), 0).unwrap().revision());
    }

    #[test]
    fn a_mark_that_names_its_commit_is_stored_with_it_and_lines_of_older_releases_are_read() {
        let mut roots = Roots::default();
        roots.apply(versioned("a/0", 7, &[root(0, 9)]));
        let json = r#"[{"partition":0,"next_offset":9,"clock_ms":90,"task":"a/0","version":281474976710663}]"#;
        assert_eq!(roots.to_json(), json);
        assert_eq!(Roots::from_json(json, 0).unwrap(), roots);
        let former = r#"[{"partition":0,"next_offset":9,"clock_ms":90,"task":"a/0"}]"#;
        let mut read = Roots::from_json(former, 1).unwrap();
        assert!(!read.names_commits() && read.version_of("a/0") == Some(1 << 48));
        assert!(read.apply(versioned("a/0", 1, &[root(0, 10)])));
    }
}
