//! Boards in the plainest way: every change that ever was, added up anew for each question. Nothing is kept in order,
//! nothing ages, and nothing is taken over from the processors.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, HashMap};

const MINUTE_MS: i64 = 60_000;
/// Half-lives that count.
const EPOCHS: i64 = 64;

/// Subject and score in thousandths, best first.
pub type Board = Vec<(String, i64)>;

/// How a board forgets. All times are in minutes.
#[derive(Clone, Copy, Debug)]
pub enum Forgets {
    HalfLife(i64),
    Window { minutes: i64, bucket: i64 },
}

/// A board of a topology.
#[derive(Clone, Debug)]
pub struct Rules {
    pub board: String,
    /// Metric and thousandths.
    pub weights: Vec<(&'static str, i128)>,
    pub forgets: Forgets,
    pub top: usize,
}

impl Rules {
    pub fn new(board: &str, weights: &[(&'static str, i128)], forgets: Forgets, top: usize) -> Self {
        Self { board: board.to_owned(), weights: weights.to_vec(), forgets, top }
    }

    /// The slot of time that a clock is in.
    pub fn tick(&self, clock_ms: i64) -> i64 {
        let (Forgets::HalfLife(minutes) | Forgets::Window { bucket: minutes, .. }) = self.forgets;
        clock_ms.div_euclid(MINUTE_MS * minutes)
    }
}

/// One event, as far as boards go.
#[derive(Clone, Debug)]
pub struct Change {
    pub subject: String,
    pub metric: &'static str,
    /// Of what is counted, or taken back.
    pub minute: i64,
    pub delta: i64,
}

/// Sums of one subject by metric and minute.
type Sums = HashMap<(&'static str, i64), i64>;

/// Everything that happened so far.
#[derive(Default)]
pub struct Changes(BTreeMap<String, Sums>);

impl Changes {
    pub fn add(&mut self, change: &Change) {
        let sums = self.0.entry(change.subject.clone()).or_default();
        *sums.entry((change.metric, change.minute)).or_default() += change.delta;
    }

    /// A board as of a clock. Only articles are on boards.
    pub fn board(&self, rules: &Rules, clock_ms: i64) -> Board {
        let of_articles = self.0.iter().filter(|(subject, _)| subject.starts_with("article:"));
        let scored = of_articles.map(|(subject, sums)| (subject.clone(), score(rules, sums, rules.tick(clock_ms))));
        let mut board: Board = scored.filter(|(_, score)| *score > 0).collect();
        board.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.as_bytes().cmp(b.0.as_bytes())));
        board.truncate(rules.top);
        board
    }
}

fn score(rules: &Rules, sums: &Sums, now: i64) -> i64 {
    let weight = |metric| rules.weights.iter().find(|(known, _)| *known == metric).map_or(0, |(_, weight)| *weight);
    let weighted = sums.iter().map(|((metric, minute), sum)| (*minute, weight(*metric) * i128::from(*sum)));
    let score = match rules.forgets {
        Forgets::HalfLife(half_life) => decayed(weighted.collect(), half_life, now),
        Forgets::Window { minutes, bucket } => {
            let counts = |minute: i64| minute.div_euclid(bucket) > now - minutes / bucket;
            weighted.filter(|(minute, _)| counts(*minute)).map(|(_, sum)| sum).sum()
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
    // Doubles have 20 more places than are asked for: enough, but where the next whole number is nearer than that.
    assert!(minute == 0 || (0.00001..0.99999).contains(&power.fract()), "minute {minute} of {half_life}: too near");
    power as i128
}

/// The shipped topology, and beside its boards some with times so short that they pass within a run.
pub fn topology() -> String {
    let shipped = include_str!("../../topology.yaml");
    let more = "
  hot-1m:   { type: board,  from: [likes, reads, views], kinds: [article], score: { likes: 3, reads: -0.5, views: 1 }, half_life: 1m, top: 40, to: rankings }
  liked-4m: { type: board,  from: [likes, views], kinds: [article], score: { likes: 2, views: 0.001 }, window: 4m, bucket: 1m, top: 25, to: rankings }

sinks:";
    assert!(shipped.contains("\nsinks:"));
    shipped.replacen("\nsinks:", more, 1)
}

/// The boards of [`topology`].
pub fn rules() -> Vec<Rules> {
    let hot = [("likes", 4_000), ("reads", 2_000), ("views", 100)];
    vec![
        Rules::new("hot", &hot, Forgets::HalfLife(360), 100),
        Rules::new("liked-1d", &[("likes", 1_000)], Forgets::Window { minutes: 1_440, bucket: 5 }, 100),
        Rules::new("hot-1m", &[("likes", 3_000), ("reads", -500), ("views", 1_000)], Forgets::HalfLife(1), 40),
        Rules::new("liked-4m", &[("likes", 2_000), ("views", 1)], Forgets::Window { minutes: 4, bucket: 1 }, 25),
    ]
}
