//! A seeded workload: events as people and machines send them, with repeats, disorder and garbage, as NDJSON.
//!
//! The same seed, shape and times give the same bytes on every machine.

mod garbage;
mod popularity;
mod random;
mod shape;
mod values;

pub use random::Random;
pub use shape::Shape;

use garbage::{KINDS, write_garbage};
use popularity::Popularity;
use std::io::{self, Write};
use values::write_values;

/// The number of earlier lines from which a repeat is chosen, and of likes for an unlike.
const REMEMBERED: usize = 4_096;
/// One in this many lines is remembered, so that repeats reach far back.
const REMEMBER_ONE_OF: u64 = 8;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// A valid event, sent for the first time.
    Event,
    /// An event that was sent before, byte by byte.
    Repeat,
    /// No valid event.
    Garbage,
}

/// Makes one line after the other.
pub struct Workload {
    shape: Shape,
    /// In every event id.
    name: String,
    random: Random,
    popularity: Popularity,
    serial: u64,
    remembered: Vec<Vec<u8>>,
    last: Vec<u8>,
    likes: Vec<Pair>,
}

/// The actors and subjects.
#[derive(Clone, Copy)]
struct Pair {
    actor: Actor,
    subject: u32,
}

#[derive(Clone, Copy)]
enum Actor {
    Person(u64),
    Bot(u64),
}

impl Workload {
    /// `name` distinguishes the ids of this workload from those of others: up to 40 of `A-Za-z0-9._:-`.
    pub fn new(shape: Shape, seed: u64, name: impl Into<String>) -> Self {
        let popularity = Popularity::new(shape.subjects, shape.hot);
        let (random, remembered, last, likes) = (Random::new(seed), Vec::new(), Vec::new(), Vec::new());
        Self { shape, name: name.into(), random, popularity, serial: 0, remembered, last, likes }
    }

    /// Appends a line to `out`, without its end. The event's time lies within the shape's disorder around `time_ms`,
    /// some further back.
    pub fn write_line(&mut self, time_ms: i64, out: &mut Vec<u8>) -> LineKind {
        let drawn = self.random.below(10_000) as u32;
        if drawn < self.shape.repeats && !self.last.is_empty() {
            out.extend_from_slice(self.repeated());
            return LineKind::Repeat;
        }
        self.serial += 1;
        let begin = out.len();
        let garbage = (self.shape.repeats..self.shape.repeats + self.shape.garbage).contains(&drawn);
        let written = if garbage { self.write_garbage(time_ms, out) } else { self.write_event(time_ms, out) };
        debug_assert!(written.is_ok(), "a vector takes everything");
        if garbage {
            return LineKind::Garbage;
        }
        self.remember(begin, out);
        LineKind::Event
    }

    /// Some clients repeat at once, because a response was lost; others once they are back.
    fn repeated(&mut self) -> &[u8] {
        if self.remembered.is_empty() || self.random.chance(2_500) {
            return &self.last;
        }
        let at = self.random.below(self.remembered.len() as u64) as usize;
        &self.remembered[at]
    }

    fn remember(&mut self, begin: usize, out: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(&out[begin..]);
        if self.random.below(REMEMBER_ONE_OF) > 0 {
            return;
        }
        if self.remembered.len() < REMEMBERED {
            self.remembered.push(self.last.clone());
        } else {
            let at = self.random.below(REMEMBERED as u64) as usize;
            self.remembered[at].clone_from(&self.last);
        }
    }

    fn write_garbage(&mut self, time_ms: i64, out: &mut Vec<u8>) -> io::Result<()> {
        let (kind, id) = (self.random.below(KINDS), format!("{}-{}", self.name, self.serial));
        write_garbage(out, kind, &id, &mut self.random, time_ms)
    }

    fn write_event(&mut self, time_ms: i64, out: &mut Vec<u8>) -> io::Result<()> {
        let event_type = match self.random.below(100) {
            0..55 => "view",
            55..75 => "read",
            75..95 => "like",
            _ => "unlike",
        };
        let Pair { actor, subject } = self.pair(event_type);
        write!(out, r#"{{"event_id":"{}-{}","type":"{event_type}","actor_id":""#, self.name, self.serial)?;
        match actor {
            Actor::Person(n) => write!(out, "u{n}")?,
            Actor::Bot(n) => write!(out, "bot{n}")?,
        }
        write!(out, r#"","subject_id":"article:{}""#, subject + 1)?;
        if !self.is_one_of(self.shape.timeless) {
            out.extend_from_slice(br#","occurred_at":"#);
            let time_ms = self.time(time_ms);
            match self.random.below(16) {
                0 => write!(out, r#""{}""#, tally_model::format_ms(time_ms))?,
                _ => write!(out, "{time_ms}")?,
            }
        }
        if event_type == "read" {
            write!(out, r#","duration_ms":{}"#, self.random.below(20_000))?;
        }
        match self.random.below(16) {
            _ if matches!(event_type, "view" | "read") && self.is_one_of(self.shape.values) => {
                write_values(out, event_type, &mut self.random)?;
            }
            0 => out.extend_from_slice(br#","properties":{"source":"feed"}"#),
            1 => out.extend_from_slice(br#","properties":{"source":"mail"}"#),
            _ => {}
        }
        out.push(b'}');
        Ok(())
    }

    /// A share of none takes nothing from the source of chance: the lines of a shape without it stay what they are.
    fn is_one_of(&mut self, of_10_000: u32) -> bool {
        of_10_000 > 0 && self.random.chance(of_10_000)
    }

    /// Most unlikes retract a recent like, and some likes are repeated: otherwise toggles would have little to do.
    fn pair(&mut self, event_type: &str) -> Pair {
        let known = match event_type {
            "unlike" => self.random.chance(8_000),
            "like" => self.random.chance(500),
            _ => false,
        };
        if known && !self.likes.is_empty() {
            return self.likes[self.random.below(self.likes.len() as u64) as usize];
        }
        let actor = match self.random.chance(self.shape.bot_events) {
            true => Actor::Bot(1 + self.random.below(u64::from(self.shape.bots))),
            false => Actor::Person(1 + self.random.below(u64::from(self.shape.actors))),
        };
        let pair = Pair { actor, subject: self.popularity.pick(&mut self.random) };
        if event_type == "like" {
            match self.likes.len() < REMEMBERED {
                true => self.likes.push(pair),
                false => self.likes[self.random.below(REMEMBERED as u64) as usize] = pair,
            }
        }
        pair
    }

    fn time(&mut self, time_ms: i64) -> i64 {
        let drawn = self.random.below(10_000) as u32;
        let mut up_to = |ms: i64| self.random.below(ms as u64 + 1) as i64;
        let Shape { late, late_after_ms, back, back_ms, behind, ahead, skew_ms, disorder_ms, .. } = self.shape;
        if drawn < late {
            // A minute more, so that it is late however soon it is sent.
            time_ms - late_after_ms - 60_000 - up_to(late_after_ms)
        } else if drawn < late + back {
            time_ms - disorder_ms - up_to(back_ms - disorder_ms)
        } else if drawn < late + back + behind {
            time_ms - up_to(skew_ms)
        } else if drawn < late + back + behind + ahead {
            time_ms + up_to(skew_ms)
        } else {
            time_ms - disorder_ms + up_to(2 * disorder_ms)
        }
    }
}

/// A workload as a file: a number of lines, with times that end at a given moment.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How it is made up.
    pub shape: Shape,
    /// Lines, all kinds together.
    pub events: u64,
    /// See [`Workload`].
    pub seed: u64,
    /// The time of no event lies after this; milliseconds since 1970.
    pub end_ms: i64,
    /// How many lines a second of event time holds.
    pub events_per_second: u64,
}

impl Plan {
    /// The workload of the large runs.
    pub fn full(events: u64, seed: u64, end_ms: i64) -> Self {
        Self { shape: Shape::full(), events, seed, end_ms, events_per_second: 10_000 }
    }

    /// Hands each line, without its end, to `each`, until that fails.
    pub fn for_each<E>(&self, mut each: impl FnMut(LineKind, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut workload = Workload::new(self.shape.clone(), self.seed, self.name());
        let mut line = Vec::new();
        let last_ms = self.end_ms - self.shape.disorder_ms;
        for left in (0..self.events).rev() {
            line.clear();
            let kind = workload.write_line(last_ms - (left * 1_000 / self.events_per_second) as i64, &mut line);
            each(kind, &line)?;
        }
        Ok(())
    }

    /// Writes all lines.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.for_each(|_, line| {
            out.write_all(line)?;
            out.write_all(b"\n")
        })
    }

    /// Ids differ between plans of different seeds or times: several may be sent to one log.
    fn name(&self) -> String {
        format!("{:x}.{:x}", self.seed, self.end_ms)
    }
}

#[cfg(test)]
mod tests;
