//! How far the input is contained in one partition of an output topic, by the marks of the tasks that write there.

use crate::progress::{ProgressMark, RootPosition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The last mark of every task that writes to a partition.
///
/// Most partitions have one writer. Where several tasks write to one (dead letters), each vouches for its own records
/// only, so the last mark alone would claim too much: what holds for all is the minimum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roots {
    generation: u16,
    tasks: BTreeMap<String, Vec<RootPosition>>,
}

/// One line of the stored form; a reader that knows only [`RootPosition`] can read it and take the minimum.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(flatten)]
    position: RootPosition,
    #[serde(default)]
    task: std::borrow::Cow<'a, str>,
}

impl Roots {
    /// Takes a mark in. The first mark of a new generation ends what the tasks of the one before have said.
    pub fn apply(&mut self, mark: ProgressMark) {
        if mark.generation < self.generation {
            return;
        }
        if mark.generation > self.generation {
            self.tasks.clear();
            self.generation = mark.generation;
        }
        self.tasks.insert(mark.task, mark.roots);
    }

    /// What all the tasks vouch for, ascending by partition.
    pub fn merged(&self) -> Vec<RootPosition> {
        let mut least = BTreeMap::<u32, RootPosition>::new();
        for root in self.tasks.values().flatten() {
            let entry = least.entry(root.partition).or_insert(*root);
            entry.next_offset = entry.next_offset.min(root.next_offset);
            entry.clock_ms = entry.clock_ms.min(root.clock_ms);
        }
        least.into_values().collect()
    }

    /// As stored: a JSON array of `{"partition","next_offset","clock_ms","task"}`.
    pub fn to_json(&self) -> String {
        let lines = self.tasks.iter().flat_map(|(task, roots)| {
            roots.iter().map(move |position| Line { position: *position, task: task.as_str().into() })
        });
        // Plain numbers and strings always become JSON.
        serde_json::to_string(&lines.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".into())
    }

    /// From the stored form.
    pub fn from_json(json: &str, generation: u16) -> Result<Self, serde_json::Error> {
        let mut tasks = BTreeMap::<String, Vec<RootPosition>>::new();
        for line in serde_json::from_str::<Vec<Line<'_>>>(json)? {
            tasks.entry(line.task.into_owned()).or_default().push(line.position);
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
}
