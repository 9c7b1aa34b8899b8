//! Windows, lateness and sessions as docs/semantics.md defines them, over all events of a subject at once.

use super::Part;
use std::collections::{BTreeMap, BTreeSet};

/// A kind of windows; lengths are in milliseconds.
#[derive(Clone, Copy)]
pub enum Window {
    /// Tumbling and hopping windows.
    Fixed { size: i64, every: i64 },
    /// Events at most a gap apart, cut at multiples of `max`.
    Session { gap: i64, max: i64 },
    /// Windows that end with an event, or begin behind one.
    Sliding { size: i64 },
}

/// Start, first millisecond behind the end, and the events of a window.
pub type Events<'a> = (i64, i64, Vec<&'a Part>);

impl Window {
    /// As it is written in keys.
    pub fn name(self) -> String {
        match self {
            Self::Fixed { size, every } if size == every => size.to_string(),
            Self::Fixed { size, every } => format!("hopping:{size}:{every}"),
            Self::Session { gap, max } => format!("session:{gap}:{max}"),
            Self::Sliding { size } => format!("sliding:{size}"),
        }
    }

    /// How many windows an event came too late for.
    pub fn late(self, part: &Part, grace: i64) -> u64 {
        match self {
            Self::Fixed { size, every } => {
                let is_late = |start: &i64| part.appended_ms >= start + size + grace;
                starts(part.time_ms, size, every).filter(is_late).count() as u64
            }
            Self::Session { gap, .. } => u64::from(part.appended_ms > part.time_ms + gap + grace),
            Self::Sliding { size } => u64::from(part.appended_ms > part.time_ms + size + grace),
        }
    }

    /// The windows of the events of a subject.
    pub fn of<'a>(self, parts: &[&'a Part], grace: i64) -> Vec<Events<'a>> {
        match self {
            Self::Fixed { size, every } => {
                let mut windows: BTreeMap<i64, Vec<&Part>> = BTreeMap::new();
                for part in parts {
                    let is_open = |start: &i64| part.appended_ms < start + size + grace;
                    starts(part.time_ms, size, every)
                        .filter(is_open)
                        .for_each(|start| windows.entry(start).or_default().push(part));
                }
                windows.into_iter().map(|(start, of)| (start, start + size, of)).collect()
            }
            Self::Session { gap, max } => {
                let apart = |a: &&Part, b: &&Part| {
                    b.time_ms - a.time_ms <= gap && a.time_ms.div_euclid(max) == b.time_ms.div_euclid(max)
                };
                let in_time = self.in_time(parts, grace);
                let sessions = in_time.chunk_by(apart);
                sessions.map(|of| (of[0].time_ms, of[of.len() - 1].time_ms + 1, of.to_vec())).collect()
            }
            Self::Sliding { size } => {
                let in_time = self.in_time(parts, grace);
                let is_open = |part: &Part, last: i64| part.appended_ms <= last + grace;
                let ending = in_time.iter().filter(|part| is_open(part, part.time_ms)).map(|part| part.time_ms - size);
                let starts: BTreeSet<i64> = ending.chain(in_time.iter().map(|part| part.time_ms + 1)).collect();
                let window = |start: i64| {
                    let (last, first) = (start + size, in_time.partition_point(|part| part.time_ms < start));
                    let of = in_time[first..].iter().take_while(|part| part.time_ms <= last);
                    let of: Vec<_> = of.filter(|part| is_open(part, last)).copied().collect();
                    (!of.is_empty()).then_some((start, last + 1, of))
                };
                starts.into_iter().filter_map(window).collect()
            }
        }
    }

    /// Those that are not late, by their times.
    fn in_time<'a>(self, parts: &[&'a Part], grace: i64) -> Vec<&'a Part> {
        let mut in_time: Vec<_> = parts.iter().filter(|part| self.late(part, grace) == 0).copied().collect();
        in_time.sort_by_key(|part| part.time_ms);
        in_time
    }
}

/// The starts of the fixed windows that hold a moment.
fn starts(time: i64, size: i64, every: i64) -> impl Iterator<Item = i64> {
    let newest = time.div_euclid(every) * every;
    (0..).map(move |n| newest - n * every).take_while(move |start| time < start + size)
}
