//! A task's position: its input, its clock, and how far the root topic is contained in its input.

use crate::processor::RootProgress;

/// A task's place in the log. Part of its state: committed, rolled back and restored with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    /// The source is contained below this offset.
    pub input_next: u64,
    /// The task's clock; `i64::MIN` until every upstream task has reported.
    pub clock_ms: i64,
    /// The last progress of each upstream task; a root task has one entry, its own.
    pub upstream: Vec<Vec<RootProgress>>,
    /// Per output of the subtopology: the number of the last commit that wrote to the task's partition of it; 0 where none
    /// did. If unknown, that of a later commit.
    pub outputs: Vec<u64>,
}

impl Position {
    /// The position of a root task that has never run.
    pub fn of_root(partition: u32, input_next: u64) -> Self {
        let own = RootProgress { partition, next_offset: input_next, clock_ms: i64::MIN };
        Self { input_next, clock_ms: i64::MIN, upstream: vec![vec![own]], outputs: Vec::new() }
    }

    /// The position of a task behind a hop that has never run.
    pub fn behind_hop(upstream_tasks: u32, input_next: u64) -> Self {
        let upstream = vec![Vec::new(); upstream_tasks as usize];
        Self { input_next, clock_ms: i64::MIN, upstream, outputs: Vec::new() }
    }

    /// How far the root topic is contained: per root partition the minimum over the upstream tasks that report on it. A
    /// partition is missing until all of these have reported.
    ///
    /// Tasks of the root subtopology report on their own partition, all others on every partition.
    pub fn progress(&self, upstream_is_root: bool, root_partitions: u32) -> Vec<RootProgress> {
        if upstream_is_root {
            return self.upstream.iter().flatten().copied().collect();
        }
        let minimum = |partition: u32| {
            // Nearly always in its place: with many tasks a search in each would be noticed.
            let in_place = |said: &'_ Vec<RootProgress>| {
                said.get(partition as usize).copied().filter(|root| root.partition == partition)
            };
            let find = |said: &'_ Vec<RootProgress>| said.iter().copied().find(|root| root.partition == partition);
            let said = self.upstream.iter().map(|said| in_place(said).or_else(|| find(said)));
            let mut minimum: Option<RootProgress> = None;
            for root in said {
                let root = root?;
                let so_far = minimum.get_or_insert(root);
                so_far.next_offset = so_far.next_offset.min(root.next_offset);
                so_far.clock_ms = so_far.clock_ms.min(root.clock_ms);
            }
            minimum
        };
        (0..root_partitions).filter_map(minimum).collect()
    }

    /// The clock behind a hop: the smallest of all root partitions, once all of them are reported.
    pub fn clock_behind_hop(&self, upstream_is_root: bool, root_partitions: u32) -> i64 {
        let progress = self.progress(upstream_is_root, root_partitions);
        match progress.len() == root_partitions as usize {
            true => progress.iter().map(|root| root.clock_ms).min().unwrap_or(i64::MIN),
            false => i64::MIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(partition: u32, next_offset: u64, clock_ms: i64) -> RootProgress {
        RootProgress { partition, next_offset, clock_ms }
    }

    #[test]
    fn the_clock_waits_for_every_upstream_task() {
        let mut position = Position::behind_hop(2, 0);
        position.upstream[0] = vec![root(0, 5, 100)];
        assert_eq!(position.clock_behind_hop(true, 2), i64::MIN);
        position.upstream[1] = vec![root(1, 7, 90)];
        assert_eq!(position.clock_behind_hop(true, 2), 90);
        assert_eq!(position.progress(true, 2), [root(0, 5, 100), root(1, 7, 90)]);
    }

    #[test]
    fn two_hops_down_the_slowest_path_counts() {
        let mut position = Position::behind_hop(2, 0);
        position.upstream[0] = vec![root(0, 5, 100), root(1, 9, 80)];
        position.upstream[1] = vec![root(0, 3, 120)];
        assert_eq!(position.progress(false, 2), [root(0, 3, 100)]);
        assert_eq!(position.clock_behind_hop(false, 2), i64::MIN);
        position.upstream[1].push(root(1, 10, 70));
        assert_eq!(position.clock_behind_hop(false, 2), 70);
    }
}
