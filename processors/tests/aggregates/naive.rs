//! A naive model of aggregates: one pass over the whole list of events, by the rules of docs/semantics.md.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub const TUMBLING: i64 = 10_000;
pub const HOPPING: (i64, i64) = (10_000, 3_000);
pub const SESSION: (i64, i64) = (5_000, 21_000);
pub const SLIDING: i64 = 4_000;
pub const GRACE: i64 = 2_000;

#[derive(Clone, Debug)]
pub struct Event {
    pub partition: usize,
    pub subject: String,
    /// Effective time.
    pub time: i64,
    pub append: i64,
    pub v: Option<i64>,
    /// Place in the partition.
    pub offset: usize,
}

/// By subject, window, metric and start: the end and the value.
pub type Windows = BTreeMap<(String, String, String, i64), (i64, Value)>;

/// The values of some events.
fn values(events: &[&Event]) -> BTreeMap<&'static str, Value> {
    let numbers: Vec<i64> = events.iter().filter_map(|event| event.v).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    let mut picked: Vec<_> = events.iter().filter(|event| event.v.is_some()).collect();
    picked.sort_by_key(|event| (event.time, event.partition, event.offset));
    let cents = |sum: i64| -> Value {
        let sign = if sum < 0 { "-" } else { "" };
        serde_json::from_str(&format!("{sign}{}.{:02}", sum.abs() / 100, sum.abs() % 100)).unwrap()
    };
    let sum: i64 = numbers.iter().sum();
    let count = numbers.len() as i64;
    let mean = (count > 0).then(|| {
        let thousandths = sum * 1_000;
        let (whole, rest) = (thousandths / count, thousandths % count);
        let rounded = if 2 * rest.abs() >= count { whole + thousandths.signum() } else { whole };
        let sign = if rounded < 0 { "-" } else { "" };
        serde_json::from_str::<Value>(&format!("{sign}{}.{:05}", rounded.abs() / 100_000, rounded.abs() % 100_000))
            .unwrap()
    });
    let rank = (numbers.len() * 9).div_ceil(10).max(1);
    BTreeMap::from([
        ("n", json!(events.len())),
        ("sum", cents(sum)),
        ("least", sorted.first().map_or(Value::Null, |v| cents(*v))),
        ("most", sorted.last().map_or(Value::Null, |v| cents(*v))),
        ("first", picked.first().map_or(Value::Null, |event| json!(format!("t{}", event.v.unwrap())))),
        ("last", picked.last().map_or(Value::Null, |event| json!(format!("t{}", event.v.unwrap())))),
        ("mean", mean.unwrap_or(Value::Null)),
        ("who", json!(numbers.iter().collect::<BTreeSet<_>>().len())),
        // Up to 128 hundredths a quantile is exact.
        ("high", if numbers.is_empty() { Value::Null } else { cents(sorted[rank - 1]) }),
    ])
}

/// What the nodes must have computed in the end, and how many records came too late, by window.
pub fn run(events: &[Event]) -> (Windows, BTreeMap<String, Value>, BTreeMap<String, u64>) {
    let (mut windows, mut totals, mut late) = (Windows::new(), BTreeMap::new(), BTreeMap::new());
    let subjects: BTreeSet<&String> = events.iter().map(|event| &event.subject).collect();
    for subject in subjects {
        let of: Vec<&Event> = events.iter().filter(|event| event.subject == *subject).collect();
        let total: BTreeMap<_, _> = values(&of).into_iter().collect();
        totals.insert(subject.clone(), json!(total));
        let mut put = |window: String, start: i64, end: i64, of: &[&Event]| {
            for (metric, value) in values(of) {
                windows.insert((subject.clone(), window.clone(), metric.to_owned(), start), (end, value));
            }
        };
        for (name, size, every) in [
            (TUMBLING.to_string(), TUMBLING, TUMBLING),
            (format!("hopping:{}:{}", HOPPING.0, HOPPING.1), HOPPING.0, HOPPING.1),
        ] {
            let mut starts: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
            for event in &of {
                let mut start = event.time.div_euclid(every) * every;
                while event.time < start + size {
                    match event.append >= start + size + GRACE {
                        true => *late.entry(name.clone()).or_default() += 1,
                        false => starts.entry(start).or_default().push(event),
                    }
                    start -= every;
                }
            }
            starts.iter().for_each(|(start, of)| put(name.clone(), *start, start + size, of));
        }
        let (name, (gap, max)) = (format!("session:{}:{}", SESSION.0, SESSION.1), SESSION);
        let is_late = |event: &&&Event| event.append > event.time + gap + GRACE;
        *late.entry(name.clone()).or_default() += of.iter().filter(is_late).count() as u64;
        let mut fresh: Vec<&Event> = of.iter().filter(|event| !is_late(event)).copied().collect();
        fresh.sort_by_key(|event| event.time);
        let apart = |a: &&Event, b: &&Event| b.time - a.time <= gap && a.time.div_euclid(max) == b.time.div_euclid(max);
        for session in fresh.chunk_by(apart) {
            put(name.clone(), session[0].time, session[session.len() - 1].time + 1, session);
        }
        let (name, size) = (format!("sliding:{SLIDING}"), SLIDING);
        let is_open = |event: &Event, end: i64| event.append <= end + GRACE;
        let is_late = |event: &&&Event| !is_open(event, event.time + size);
        *late.entry(name.clone()).or_default() += of.iter().filter(is_late).count() as u64;
        let fresh: Vec<&Event> = of.iter().filter(|event| !is_late(event)).copied().collect();
        let mut starts = BTreeSet::new();
        for event in &fresh {
            if is_open(event, event.time) {
                starts.insert(event.time - size);
            }
            starts.insert(event.time + 1);
        }
        for start in starts {
            let end = start + size;
            let holds = |event: &&&Event| (start..=end).contains(&event.time) && is_open(event, end);
            let of: Vec<&Event> = fresh.iter().filter(holds).copied().collect();
            if !of.is_empty() {
                put(name.clone(), start, end + 1, &of);
            }
        }
    }
    late.retain(|_, count| *count > 0);
    (windows, totals, late)
}
