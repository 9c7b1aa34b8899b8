//! Boards computed in the plainest way: every change that ever was, added up again for each question. Nothing is kept in
//! order, nothing ages, and nothing is taken over from the processors.

use crate::{MINUTE_MS, SHIPPED_TOPOLOGY};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Half-lives that count.
const EPOCHS: i64 = 64;

/// Subject and score in thousandths, best first.
pub type Board = Vec<(String, i64)>;

/// How a board forgets. All times are in minutes.
#[derive(Clone, Copy, Debug)]
pub enum Forgets {
    /// What a change weighs is halved each time this has passed.
    HalfLife(i64),
    /// A change counts within a window that moves bucket by bucket.
    Window {
        /// Its length.
        minutes: i64,
        /// Length of a bucket.
        bucket: i64,
    },
    /// Trending: the window, compared with the expectation from the baseline before it.
    Trend {
        /// Length of the window.
        minutes: i64,
        /// Length of a bucket.
        bucket: i64,
        /// Length of the baseline.
        baseline: i64,
    },
}

/// A board of a topology.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its name, with `@group` where it is of a group.
    pub board: String,
    /// Metric and thousandths.
    pub weights: Vec<(&'static str, i128)>,
    /// How changes lose their weight.
    pub forgets: Forgets,
    /// How many subjects are on it at most.
    pub top: usize,
    /// Distinct actors that a subject needs.
    pub min_actors: usize,
    /// Only what was done in this group.
    pub group: Option<&'static str>,
}

impl Rules {
    /// A board without groups.
    pub fn new(board: &str, weights: &[(&'static str, i128)], forgets: Forgets, top: usize) -> Self {
        Self { board: board.to_owned(), weights: weights.to_vec(), forgets, top, min_actors: 0, group: None }
    }

    /// The same board, for subjects with at least this many distinct actors.
    pub fn min_actors(self, min_actors: usize) -> Self {
        Self { min_actors, ..self }
    }

    /// The same of a group.
    pub fn of_group(&self, group: &'static str) -> Self {
        Self { board: format!("{}@{group}", self.board), group: Some(group), ..self.clone() }
    }

    fn slot_minutes(&self) -> i64 {
        match self.forgets {
            Forgets::HalfLife(minutes) => minutes,
            Forgets::Window { bucket, .. } | Forgets::Trend { bucket, .. } => bucket,
        }
    }

    fn weight(&self, metric: &str) -> i128 {
        self.weights.iter().find(|(known, _)| *known == metric).map_or(0, |(_, weight)| *weight)
    }

    fn takes(&self, what: &What) -> bool {
        self.weight(what.0) != 0 && self.group.is_none_or(|group| what.1.as_deref() == Some(group))
    }

    /// Whether an act of a minute counts towards the minimum of actors.
    fn is_late_act(&self, minute: i64, now: i64) -> bool {
        let age = now - minute.div_euclid(self.slot_minutes());
        match self.forgets {
            Forgets::HalfLife(_) => age <= EPOCHS,
            Forgets::Window { minutes, bucket } | Forgets::Trend { minutes, bucket, .. } => age < minutes / bucket,
        }
    }

    /// The slot of time that a clock is in.
    pub fn tick(&self, clock_ms: i64) -> i64 {
        clock_ms.div_euclid(MINUTE_MS * self.slot_minutes())
    }
}

/// The fields of an event that boards use.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was acted on.
    pub subject: String,
    /// What is counted.
    pub metric: &'static str,
    /// Minute of the event that counts or is undone, since 1970.
    pub minute: i64,
    /// +1 or -1.
    pub delta: i64,
    /// Who acted.
    pub actor: String,
    /// What was named by the event that was counted.
    pub group: Option<String>,
}

/// Metric and group.
type What = (&'static str, Option<String>);

/// The acts on one subject.
#[derive(Default)]
struct Subject {
    /// By what and minute.
    sums: HashMap<(What, i64), i64>,
    /// The newest minute of who did what.
    acts: HashMap<(What, String), i64>,
}

/// Everything that happened so far.
#[derive(Default)]
pub struct Changes(BTreeMap<String, Subject>);

impl Changes {
    /// Adds the next change.
    pub fn add(&mut self, change: &Change) {
        let Change { subject, metric, minute, delta, actor, group } = change;
        let subject = self.0.entry(subject.clone()).or_default();
        let what = (*metric, group.clone());
        *subject.sums.entry((what.clone(), *minute)).or_default() += delta;
        if *delta > 0 {
            let newest = subject.acts.entry((what, actor.clone())).or_insert(*minute);
            *newest = (*newest).max(*minute);
        }
    }

    /// A board as of a clock. Only articles are on boards.
    pub fn board(&self, rules: &Rules, clock_ms: i64) -> Board {
        let of_articles = self.0.iter().filter(|(subject, _)| subject.starts_with("article:"));
        let scored = of_articles.map(|(id, subject)| (id.clone(), score(rules, subject, rules.tick(clock_ms))));
        let mut board: Board = scored.filter(|(_, score)| *score > 0).collect();
        board.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.as_bytes().cmp(b.0.as_bytes())));
        board.truncate(rules.top);
        board
    }
}

fn score(rules: &Rules, subject: &Subject, now: i64) -> i64 {
    let acts = subject.acts.iter().filter(|((what, _), minute)| rules.takes(what) && rules.is_late_act(**minute, now));
    if rules.min_actors > 0 && acts.map(|((_, actor), _)| actor).collect::<HashSet<_>>().len() < rules.min_actors {
        return 0;
    }
    let taken = subject.sums.iter().filter(|((what, _), _)| rules.takes(what));
    let weighted = taken.map(|((what, minute), sum)| (*minute, rules.weight(what.0) * i128::from(*sum)));
    let weighted: Vec<_> = weighted.collect();
    let within = |bucket: i64, from: i64, to: i64| -> i128 {
        let counts = |minute: i64| (from + 1..=to).contains(&minute.div_euclid(bucket));
        weighted.iter().filter(|(minute, _)| counts(*minute)).map(|(_, sum)| sum).sum()
    };
    let score = match rules.forgets {
        Forgets::HalfLife(half_life) => decayed(weighted, half_life, now),
        Forgets::Window { minutes, bucket } => within(bucket, now - minutes / bucket, i64::MAX - 1),
        Forgets::Trend { minutes, bucket, baseline } => {
            let begin = now - minutes / bucket;
            let observed = within(bucket, begin, i64::MAX - 1);
            // As many as there would be in a window, if all came as evenly as in the baseline; at least one.
            let expected = (within(bucket, begin - baseline / bucket, begin) * i128::from(minutes / bucket)
                / i128::from(baseline / bucket))
            .max(1_000);
            if observed > expected { (observed - expected).pow(2) / expected } else { 0 }
        }
    };
    i64::try_from(score).expect("no workload is that large")
}

/// Over the common denominator of the oldest epoch, so that nothing is cut off but at the end.
fn decayed(sums: Vec<(i64, i128)>, half_life: i64, now: i64) -> i128 {
    let age = |minute: i64| now - minute.div_euclid(half_life);
    let counting = || sums.iter().filter(|(minute, _)| age(*minute) <= EPOCHS);
    let oldest = counting().map(|(minute, _)| age(*minute)).max().unwrap_or_default();
    let term = |(minute, sum): &(i64, i128)| {
        (sum * power(minute.rem_euclid(half_life), half_life)).checked_mul(1 << (oldest - age(*minute))).unwrap()
    };
    counting().map(term).sum::<i128>() >> (32 + oldest)
}

/// floor(2^32 * 2^(minute / half-life)).
fn power(minute: i64, half_life: i64) -> i128 {
    let power = (minute as f64 / half_life as f64).exp2() * f64::from(1u32 << 16) * f64::from(1u32 << 16);
    // Doubles have 20 more bits than needed: enough, except where the next whole number is closer than that.
    assert!(minute == 0 || (0.00001..0.99999).contains(&power.fract()), "minute {minute} of {half_life}: too near");
    power as i128
}

/// The shipped topology, and beside its boards some with times so short that they pass within a run.
pub fn topology() -> String {
    let more = "
  hot-1m:   { type: board,  from: [likes, reads, views], kinds: [article], score: { likes: 3, reads: -0.5, views: 1 }, half_life: 1m, top: 40, to: rankings }
  liked-4m: { type: board,  from: [likes, views], kinds: [article], score: { likes: 2, views: 0.001 }, window: 4m, bucket: 1m, top: 25, to: rankings }
  busy-5m:  { type: board,  from: [likes, views], kinds: [article], score: { likes: 2, views: 1 }, window: 5m, bucket: 1m, min_actors: 8, top: 100, to: rankings }
  fed:      { type: board,  from: [likes, reads, views], kinds: [article], score: { likes: 4, reads: 2, views: 1 }, half_life: 2m, min_actors: 2, group: properties.source, groups: [feed, mail], top: 30, to: rankings }
  rising:   { type: board,  from: [likes, views], kinds: [article], score: { likes: 1, views: 1 }, window: 2m, bucket: 1m, baseline: 6m, top: 60, to: rankings }

sinks:";
    assert!(SHIPPED_TOPOLOGY.contains("\nsinks:"));
    SHIPPED_TOPOLOGY.replacen("\nsinks:", more, 1)
}

/// The boards of [`topology`].
pub fn rules() -> Vec<Rules> {
    let hot = [("likes", 4_000), ("collects", 6_000), ("reads", 2_000), ("views", 100)];
    let busy =
        Rules::new("busy-5m", &[("likes", 2_000), ("views", 1_000)], Forgets::Window { minutes: 5, bucket: 1 }, 100);
    let fed = Rules::new("fed", &[("likes", 4_000), ("reads", 2_000), ("views", 1_000)], Forgets::HalfLife(2), 30);
    let rising = Forgets::Trend { minutes: 2, bucket: 1, baseline: 6 };
    vec![
        Rules::new("hot", &hot, Forgets::HalfLife(360), 100),
        Rules::new("liked-1d", &[("likes", 1_000)], Forgets::Window { minutes: 1_440, bucket: 5 }, 100),
        Rules::new("hot-1m", &[("likes", 3_000), ("reads", -500), ("views", 1_000)], Forgets::HalfLife(1), 40),
        Rules::new("liked-4m", &[("likes", 2_000), ("views", 1)], Forgets::Window { minutes: 4, bucket: 1 }, 25),
        busy.min_actors(8),
        fed.clone().min_actors(2),
        fed.of_group("feed").min_actors(2),
        fed.of_group("mail").min_actors(2),
        Rules::new("rising", &[("likes", 1_000), ("views", 1_000)], rising, 60),
    ]
}
