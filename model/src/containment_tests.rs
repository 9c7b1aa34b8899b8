use super::*;
use crate::progress::{OutputCommit, RootPosition};
use proptest::prelude::*;

const GENERATION: i64 = 1 << 48;

fn root(next_offset: u64) -> RootPosition {
    RootPosition { partition: 0, next_offset, clock_ms: next_offset as i64 }
}

fn progress(commit: u64, wrote: u64) -> TaskProgress {
    let outputs = vec![OutputCommit { topic: "counters".into(), commit: wrote }];
    TaskProgress { task: "a/0".into(), generation: 1, commit, roots: vec![root(commit)], outputs }
}

fn mark(commit: u64) -> ProgressMark {
    progress(commit, 0).mark()
}

fn contained(containment: &Containment) -> Option<u64> {
    containment.roots().merged().first().map(|root| root.next_offset)
}

#[test]
fn a_header_counts_when_reading_has_passed_it() {
    let mut partition = Containment::new(Roots::default(), 0);
    partition.read(mark(3));
    assert_eq!(contained(&partition), None);
    assert!(partition.settle(4));
    assert_eq!(contained(&partition), Some(3));
    assert!(!partition.settle(5), "nothing new");
}

#[test]
fn over_a_compacted_past_no_mark_counts_before_the_end_that_was_seen() {
    let mut partition = Containment::new(Roots::default(), 100);
    partition.read(mark(3));
    partition.read_progress(&progress(9, 0), "counters");
    assert!(!partition.settle(99));
    assert_eq!(contained(&partition), None);
    assert!(partition.settle(100));
    assert_eq!(contained(&partition), Some(9));
    // The same where reading falls behind later; what counted before still does.
    partition.distrust(200);
    partition.read(mark(12));
    assert!(!partition.settle(199));
    assert_eq!(contained(&partition), Some(9));
    assert!(partition.settle(200));
    assert_eq!(contained(&partition), Some(12));
}

#[test]
fn a_mark_that_is_visible_before_its_records_waits_for_them() {
    let mut partition = Containment::new(Roots::default(), 0);
    partition.read(mark(4));
    partition.settle(10);
    partition.read_progress(&progress(7, 6), "counters");
    assert!(!partition.settle(10), "commit 6 wrote here, and was not read");
    assert!(partition.doubts());
    partition.read(mark(6));
    assert!(partition.settle(12));
    assert_eq!(contained(&partition), Some(7));
    assert!(!partition.doubts());
    // Nothing was written here since: it counts at once.
    partition.read_progress(&progress(8, 6), "counters");
    assert!(partition.settle(12));
    assert_eq!(contained(&partition), Some(8));
}

#[test]
fn a_record_that_is_gone_is_proved_by_the_end_for_writers() {
    let mut partition = Containment::new(Roots::default(), 0);
    partition.read_progress(&progress(7, 6), "counters");
    partition.settle(10);
    partition.prove(20);
    assert!(!partition.doubts());
    // A mark that is read after the query is not proved by its result.
    partition.read_progress(&progress(9, 8), "counters");
    assert!(!partition.settle(19));
    assert!(partition.settle(20));
    assert_eq!(contained(&partition), Some(7));
    assert!(partition.doubts());
}

#[test]
fn other_topics_and_older_marks_change_nothing() {
    let mut partition = Containment::new(Roots::default(), 0);
    partition.read_progress(&progress(7, 0), "rankings");
    assert!(!partition.doubts() && !partition.settle(5));
    partition.read_progress(&progress(7, 0), "counters");
    assert!(partition.settle(5));
    partition.read_progress(&progress(6, 0), "counters");
    partition.read(mark(5));
    assert!(!partition.settle(6));
    assert_eq!(contained(&partition), Some(7));
}

/// One task's history in a partition: which of its commits wrote there, and which keys.
#[derive(Clone, Debug)]
struct History {
    /// Per commit, the keys that it wrote; the commit's number is the index + 1.
    commits: Vec<Vec<u8>>,
}

/// A record: its offset, key, commit, and whether it is the last of its commit.
#[derive(Clone, Copy, Debug)]
struct Written {
    offset: u64,
    key: u8,
    commit: u64,
    is_last: bool,
}

impl History {
    fn records(&self) -> Vec<Written> {
        let of_commit = |(commit, keys): (u64, &Vec<u8>)| {
            let len = keys.len();
            let record = move |(i, key): (usize, u8)| (key, commit, i + 1 == len);
            keys.clone().into_iter().enumerate().map(record).collect::<Vec<_>>()
        };
        let all = (1..).zip(&self.commits).flat_map(of_commit);
        // An offset after each commit is its control record.
        let mut offset = 0;
        let placed = all.map(move |(key, commit, is_last)| {
            let at = offset;
            offset += if is_last { 2 } else { 1 };
            Written { offset: at, key, commit, is_last }
        });
        placed.collect()
    }

    fn end(&self, commits: usize) -> u64 {
        let written = self.records().into_iter().filter(|record| record.commit <= commits as u64);
        written.map(|record| record.offset + 2).max().unwrap_or(0)
    }

    fn last_that_wrote(&self, commit: u64) -> u64 {
        (1..=commit).rev().find(|commit| !self.commits[*commit as usize - 1].is_empty()).unwrap_or(0)
    }
}

fn histories() -> impl Strategy<Value = History> {
    proptest::collection::vec(proptest::collection::vec(0u8..5, 0..4), 1..12).prop_map(|commits| History { commits })
}

proptest! {
    /// Whatever is compacted, whatever was written before reading began, in whichever order marks and records become
    /// visible, and wherever reading stops: what a mark claims is contained, or was replaced by something that is. And in
    /// the end everything counts.
    #[test]
    fn no_claim_without_its_records(
        history in histories(),
        began in 0usize..12,
        steps in proptest::collection::vec((0u8..4, 0usize..12), 0..60),
    ) {
        let total = history.commits.len();
        let began = began.min(total);
        let records = history.records();
        // All records that were replaced before reading began have been removed.
        let seen_end = history.end(began);
        let replaced = |record: &Written| {
            records.iter().any(|later| later.key == record.key && later.offset > record.offset && later.offset < seen_end)
        };
        let kept: Vec<Written> = records.iter().copied().filter(|record| !replaced(record)).collect();
        let mut partition = Containment::new(Roots::default(), seen_end);
        let (mut position, mut visible, mut committed) = (0u64, began, began);
        let mut newest = [0u64; 5];
        let read = |partition: &mut Containment, position: &mut u64, until: u64, newest: &mut [u64; 5]| {
            for record in kept.iter().filter(|record| (*position..until).contains(&record.offset)) {
                newest[record.key as usize] = newest[record.key as usize].max(record.commit);
                if record.is_last {
                    partition.read(mark(record.commit));
                }
            }
            *position = until.max(*position);
            partition.settle(*position);
        };
        let hear = |partition: &mut Containment, commit: usize, position: u64| {
            if commit > 0 {
                let commit = commit as u64;
                partition.read_progress(&progress(commit, history.last_that_wrote(commit)), "counters");
                partition.settle(position);
            }
        };
        for (step, argument) in steps {
            match step {
                // A commit is decided; its mark can be read, its records not yet.
                0 => committed = (committed + 1).min(total),
                1 => {
                    visible = (visible + 1).min(committed);
                    let until = history.end(visible).saturating_sub(argument as u64 % 3);
                    read(&mut partition, &mut position, until, &mut newest);
                }
                2 => hear(&mut partition, argument.min(committed), position),
                _ => {
                    if partition.doubts() {
                        partition.prove(history.end(committed));
                        partition.settle(position);
                    }
                }
            }
            let claimed = contained(&partition).unwrap_or(0);
            for key in 0..5u8 {
                let due = records.iter().filter(|record| record.key == key && record.commit <= claimed);
                let due = due.map(|record| record.commit).max().unwrap_or(0);
                prop_assert!(newest[key as usize] >= due, "claims commit {claimed}, key {key}: {newest:?} < {due}");
            }
        }
        read(&mut partition, &mut position, history.end(total), &mut newest);
        hear(&mut partition, total, position);
        if partition.doubts() {
            partition.prove(history.end(total));
            partition.settle(position);
        }
        prop_assert_eq!(contained(&partition), Some(total as u64));
    }
}

#[test]
fn a_task_of_a_new_generation_begins_anew() {
    let mut partition = Containment::new(Roots::default(), 0);
    partition.read_progress(&progress(7, 0), "counters");
    partition.settle(1);
    let next = TaskProgress { generation: 2, ..progress(1, 0) };
    partition.read_progress(&next, "counters");
    assert!(partition.settle(1));
    assert_eq!(partition.roots().newest(), 2 * GENERATION + 1);
    partition.read(mark(8));
    assert!(!partition.settle(2), "of the generation before");
}
