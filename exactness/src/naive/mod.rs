//! What the pipeline must have counted, computed in the plainest way: hash maps, one pass over the log, nothing of the
//! processors. It counts as the shipped `topology.yaml` does; a change there is a change here.

mod aggregates;
mod comparison;
mod history;
mod moments;
mod stored;

pub(crate) use aggregates::CLOSED_AFTER_MS;
pub use aggregates::{Aggregates, Datum, StoredAggregates, TopicAggregates, with_aggregates};
pub use comparison::{Differences, collect_counts, compare_counters, compare_stored};
pub use history::{LogRecord, read_history, read_topic};
pub(crate) use moments::items;
pub use moments::{Held, Moment, TopicBoards, compare_boards};
pub use stored::{Stored, StoredBoards, number};

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use tally_streams::log::{Log, partition_of};
use tally_streams::task::ClockMove;
use tally_testkit::{MINUTE_MS, boards};

const LATE_AFTER_MS: i64 = 24 * 60 * 60 * 1_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Rule `burst`.
const BURST_EVENTS: [&str; 7] = ["view", "read", "like", "unlike", "follow", "unfollow", "share"];
const BURST_MAX: u32 = 60;
const BURST_WINDOW_MS: i64 = 10_000;
/// Rule `toggle`.
const TOGGLE_MAX: u32 = 1;
/// Its window.
pub const TOGGLE_WINDOW_MS: i64 = 5_000;
/// Every type of event that is counted.
const KINDS: [&str; 8] = ["view", "read", "like", "unlike", "follow", "unfollow", "share", "api_call"];
/// Those of the database: they have a number. That only its relay can give them one is not the model's business.
const OWNED: [&str; 2] = ["collect", "uncollect"];
/// How far ahead of the log an event may lie.
const AHEAD_MAX_MS: i64 = 5 * 60 * 1_000;

/// (subject, metric)
pub type CounterKey = (String, &'static str);
/// (subject, metric, length, start)
pub type WindowKey = (String, &'static str, i64, i64);
/// (actor, metric, subject)
pub type ReactionKey = (String, &'static str, String);
/// (partition, offset)
pub type Place = (u32, u64);

/// Everything that follows from the log.
#[derive(Default)]
pub struct Model {
    /// Totals.
    pub counters: HashMap<CounterKey, i64>,
    /// Totals of windows.
    pub windows: HashMap<WindowKey, i64>,
    /// Who was there, by subject.
    pub visitors: HashMap<String, HashSet<String>>,
    /// By subject and start of the day.
    pub daily_visitors: HashMap<(String, i64), HashSet<String>>,
    /// What was switched on or off.
    pub reactions: HashMap<ReactionKey, Reaction>,
    /// Why events were not counted.
    pub verdicts: HashMap<Place, Verdict>,
    /// Records that are no valid event, or lie where they do not belong; and each time that an aggregate rejects one.
    pub dead_letters: Vec<Place>,
    /// Every (actor, event) of a valid event in the log, counted or not.
    pub ids: HashSet<(String, String)>,
    /// How many records were taken.
    pub records: u64,
    /// What boards are made of, each with the record that brought it.
    pub board_changes: Vec<(Place, boards::Change)>,
    /// What the nodes of [`with_aggregates`] compute, where the topology has them.
    pub aggregates: Option<Aggregates>,
    clocks: HashMap<u32, i64>,
    /// By partition: moves of the clock of an idle task, each before the record at an offset. In their order.
    moves: HashMap<u32, VecDeque<(u64, i64)>>,
    seen: HashSet<(String, String)>,
    /// (actor, number of the window)
    passed: HashMap<(String, i64), u32>,
    /// (actor, subject, number of the window)
    toggled: HashMap<(String, String, i64), u32>,
    /// What rule `toggle` holds back: by partition, number of the window, actor and subject.
    held: BTreeMap<(u32, i64, String, String), Click>,
    switches: HashMap<ReactionKey, Switch>,
    /// (actor, subject): the greatest number, and its state.
    pub collects: HashMap<(String, String), (i64, bool)>,
    /// When each was switched on last.
    collected_since: HashMap<(String, String), i64>,
}

/// Something that was switched on or off. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Reaction {
    /// Whether it is on.
    pub active: bool,
    /// The effective time of the last event that counted.
    pub occurred_at_ms: i64,
    /// The append time of the first change.
    pub created_at_ms: i64,
    /// The append time of the last change.
    pub updated_at_ms: i64,
}

/// Why an event was not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Like `late`.
    pub kind: String,
    /// As far as it can be read.
    pub event_id: Option<String>,
    /// As far as it can be read.
    pub actor_id: Option<String>,
    /// The append time of the event.
    pub appended_at_ms: i64,
}

struct Click {
    event: Event,
    time_ms: i64,
    appended_ms: i64,
    place: Place,
}

struct Switch {
    active: bool,
    time_ms: i64,
    /// When it was switched on last.
    since_ms: i64,
    /// The group that was named then.
    group: Option<String>,
}

/// How a toggle has changed: +1 or -1, and what is counted or taken back.
struct Switched {
    change: i64,
    since_ms: i64,
    group: Option<String>,
}

/// As the ingest API writes it: times are milliseconds.
#[derive(Deserialize)]
struct Event {
    event_id: String,
    #[serde(rename = "type")]
    kind: String,
    actor_id: String,
    subject_id: String,
    occurred_at: Option<i64>,
    duration_ms: Option<i64>,
    #[serde(default)]
    properties: HashMap<String, Box<RawValue>>,
}

impl Event {
    /// What `group: properties.source` names.
    fn group(&self) -> Option<String> {
        self.text("source")
    }

    /// A property that is a text.
    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.properties.get(name)?.get()).ok()
    }
}

/// What can be read of something, whatever else is wrong with it.
#[derive(Default, Deserialize)]
struct Readable {
    event_id: Option<String>,
    actor_id: Option<String>,
}

impl From<Event> for Readable {
    fn from(event: Event) -> Self {
        Self { event_id: Some(event.event_id), actor_id: Some(event.actor_id) }
    }
}

/// Waits for what a database answers.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// The rules that a record may break although it has the form of an event; of the records of the ingest API none does.
fn is_valid(event: &Event, record: &LogRecord<'_>, appended_ms: i64) -> bool {
    record.key == event.actor_id.as_bytes()
        && record.partition == partition_of(record.key, record.partitions)
        && (KINDS.contains(&event.kind.as_str()) || (OWNED.contains(&event.kind.as_str()) && record.seq.is_some()))
        && (event.kind != "read" || event.duration_ms.is_some())
        && event.occurred_at.is_none_or(|time_ms| time_ms <= appended_ms + AHEAD_MAX_MS)
        && event.subject_id.contains(':')
}

impl Model {
    /// The model of a topology with aggregates.
    pub fn with_aggregates() -> Self {
        Self { aggregates: Some(Aggregates::default()), ..Self::default() }
    }

    /// Takes everything that a log holds.
    pub fn read(&mut self, log: &dyn Log) {
        read_topic(log, "tally-idle", |record| {
            let one = ClockMove::decode(record.value).expect("a move of the clock");
            self.moves.entry(one.partition).or_default().push_back((one.next_offset, one.clock_ms));
        });
        read_topic(log, "user-actions", |record| self.take(record));
        self.finish();
    }

    /// Takes the next record of its partition.
    pub fn take(&mut self, record: &LogRecord<'_>) {
        self.records += 1;
        let clock = self.clocks.entry(record.partition).or_insert(i64::MIN);
        let moves = self.moves.entry(record.partition).or_default();
        while let Some((_, moved_ms)) = moves.pop_front_if(|(before, _)| *before <= record.offset) {
            *clock = moved_ms.max(*clock);
        }
        *clock = record.append_time_ms.max(*clock);
        let appended_ms = *clock;
        self.release(record.partition, appended_ms);
        let place = (record.partition, record.offset);
        let event = serde_json::from_slice::<Event>(record.value).ok();
        let Some(event) = event.filter(|event| is_valid(event, record, appended_ms)) else {
            self.dead_letters.push(place);
            let read: Readable = serde_json::from_slice(record.value).unwrap_or_default();
            // An event without an id cannot be looked up.
            if read.event_id.is_some() {
                self.verdict(place, "dead", read, appended_ms);
            }
            return;
        };
        if let Some(seq) = record.seq.filter(|_| OWNED.contains(&event.kind.as_str())) {
            self.collect(place, &event, seq, appended_ms);
            return;
        }
        let id = (event.actor_id.clone(), event.event_id.clone());
        self.ids.insert(id.clone());
        let occurred_ms = event.occurred_at.unwrap_or(appended_ms);
        if appended_ms - occurred_ms > LATE_AFTER_MS {
            self.verdict(place, "late", event.into(), appended_ms);
        } else if !self.seen.insert(id) {
            self.verdict(place, "duplicate", event.into(), appended_ms);
        } else if !self.passes_burst(&event, appended_ms) {
            self.verdict(place, "limited", event.into(), appended_ms);
        } else {
            let event = Click { event, time_ms: occurred_ms.min(appended_ms), appended_ms, place };
            if let Some(event) = self.hold(event) {
                self.passed_burst(&event.event, appended_ms);
                self.aggregate(place, &event.event, event.time_ms, appended_ms);
                self.count(place, &event.event, event.time_ms, appended_ms);
            }
        }
    }

    /// Time has passed and nothing more comes: what is held back is counted.
    pub fn finish(&mut self) {
        let partitions: Vec<u32> = self.clocks.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.release(partition, i64::MAX));
    }

    /// Counts what is held back in windows that end at or before a time.
    fn release(&mut self, partition: u32, clock_ms: i64) {
        let ended = |(of, window, ..): &(u32, i64, String, String)| {
            *of == partition && (window + 1).saturating_mul(TOGGLE_WINDOW_MS) <= clock_ms
        };
        let from = (partition, i64::MIN, String::new(), String::new());
        while let Some(key) = self.held.range(from.clone()..).next().map(|(key, _)| key.clone()).filter(ended) {
            if let Some(Click { event, time_ms, appended_ms, place }) = self.held.remove(&key) {
                self.aggregate(place, &event, time_ms, (key.1 + 1) * TOGGLE_WINDOW_MS);
                self.count(place, &event, time_ms, appended_ms);
            }
        }
    }

    /// Gives an event back unless rule `toggle` keeps it: of what is over its limit only the one with the greatest time,
    /// of equal ones the later, stays until the window has ended.
    fn hold(&mut self, new: Click) -> Option<Click> {
        if !matches!(new.event.kind.as_str(), "like" | "unlike") {
            return Some(new);
        }
        let window = new.appended_ms.div_euclid(TOGGLE_WINDOW_MS);
        let (actor, subject) = (new.event.actor_id.clone(), new.event.subject_id.clone());
        let toggled = self.toggled.entry((actor.clone(), subject.clone(), window)).or_default();
        if *toggled < TOGGLE_MAX {
            *toggled += 1;
            return Some(new);
        }
        let key = (new.place.0, window, actor, subject);
        let over = match self.held.get(&key) {
            Some(held) if held.time_ms > new.time_ms => Some(new),
            _ => self.held.insert(key, new),
        };
        if let Some(Click { event, appended_ms, place, .. }) = over {
            self.verdict(place, "limited", event.into(), appended_ms);
        }
        None
    }

    /// The greatest number wins.
    fn collect(&mut self, place: Place, event: &Event, seq: i64, appended_ms: i64) {
        let active = event.kind == "collect";
        let key = (event.actor_id.clone(), event.subject_id.clone());
        let row = self.collects.entry(key.clone()).or_default();
        if seq <= row.0 {
            return;
        }
        let change = i64::from(active) - i64::from(std::mem::replace(row, (seq, active)).1);
        if change == 0 {
            return;
        }
        if active {
            let time_ms = event.occurred_at.unwrap_or(appended_ms).min(appended_ms);
            self.collected_since.insert(key.clone(), time_ms);
        }
        // What is taken back is taken from the minute that it was given to.
        let since_ms = self.collected_since[&key];
        self.on_boards(place, event, ("collects", None), since_ms, change);
        self.add(&event.subject_id, "collects", change);
    }

    fn verdict(&mut self, place: Place, kind: &str, ids: Readable, appended_at_ms: i64) {
        let Readable { event_id, actor_id } = ids;
        let verdict = Verdict { kind: kind.to_owned(), event_id, actor_id, appended_at_ms };
        assert!(self.verdicts.insert(place, verdict).is_none(), "{place:?} was read twice");
    }

    fn passes_burst(&mut self, event: &Event, appended_ms: i64) -> bool {
        if !BURST_EVENTS.contains(&event.kind.as_str()) {
            return true;
        }
        let window = appended_ms.div_euclid(BURST_WINDOW_MS);
        self.passed.get(&(event.actor_id.clone(), window)).is_none_or(|passed| *passed < BURST_MAX)
    }

    /// Only what every rule lets pass counts towards them.
    fn passed_burst(&mut self, event: &Event, appended_ms: i64) {
        if BURST_EVENTS.contains(&event.kind.as_str()) {
            let window = appended_ms.div_euclid(BURST_WINDOW_MS);
            *self.passed.entry((event.actor_id.clone(), window)).or_default() += 1;
        }
    }

    /// `appended_ms` of an event that was held back is the time of its release.
    fn aggregate(&mut self, place: Place, event: &Event, time_ms: i64, appended_ms: i64) {
        let Some(aggregates) = &mut self.aggregates else { return };
        let rejected = aggregates.take(place, event, time_ms, appended_ms);
        self.dead_letters.extend(std::iter::repeat_n(place, rejected));
        if rejected > 0 {
            let ids = Readable { event_id: Some(event.event_id.clone()), actor_id: Some(event.actor_id.clone()) };
            self.verdict(place, "dead", ids, appended_ms);
        }
    }

    fn count(&mut self, place: Place, event: &Event, time_ms: i64, appended_ms: i64) {
        let subject = &event.subject_id;
        match event.kind.as_str() {
            "view" => {
                self.on_boards(place, event, ("views", event.group()), time_ms, 1);
                self.add(subject, "views", 1);
                self.add_window(subject, "views", HOUR_MS, time_ms);
                self.add_window(subject, "views", DAY_MS, time_ms);
                self.visitors.entry(subject.clone()).or_default().insert(event.actor_id.clone());
                let day = (subject.clone(), time_ms.div_euclid(DAY_MS) * DAY_MS);
                self.daily_visitors.entry(day).or_default().insert(event.actor_id.clone());
            }
            "read" if event.duration_ms.is_some_and(|duration| duration >= 5_000) => {
                self.on_boards(place, event, ("reads", event.group()), time_ms, 1);
                self.add(subject, "reads", 1);
                self.add_window(subject, "reads", DAY_MS, time_ms);
            }
            "share" => self.add(subject, "shares", 1),
            "api_call" => {
                self.add(subject, "calls", 1);
                self.add_window(subject, "calls", HOUR_MS, time_ms);
            }
            "like" | "unlike" => {
                if let Some(Switched { change, since_ms, group }) =
                    self.switch("likes", event, event.kind == "like", time_ms, appended_ms)
                {
                    self.on_boards(place, event, ("likes", group), since_ms, change);
                    self.add(subject, "likes", change);
                }
            }
            "follow" | "unfollow" => {
                let switched = self.switch("follows", event, event.kind == "follow", time_ms, appended_ms);
                let change = switched.map_or(0, |switched| switched.change);
                self.add(subject, "followers", change);
                self.add(&format!("user:{}", event.actor_id), "following", change);
            }
            _ => {}
        }
    }

    fn on_boards(
        &mut self,
        place: Place,
        event: &Event,
        (metric, group): (&'static str, Option<String>),
        since_ms: i64,
        delta: i64,
    ) {
        let (subject, actor, minute) =
            (event.subject_id.clone(), event.actor_id.clone(), since_ms.div_euclid(MINUTE_MS));
        self.board_changes.push((place, boards::Change { subject, metric, minute, delta, actor, group }));
    }

    fn add(&mut self, subject: &str, metric: &'static str, change: i64) {
        *self.counters.entry((subject.to_owned(), metric)).or_default() += change;
    }

    fn add_window(&mut self, subject: &str, metric: &'static str, length_ms: i64, time_ms: i64) {
        let start_ms = time_ms.div_euclid(length_ms) * length_ms;
        *self.windows.entry((subject.to_owned(), metric, length_ms, start_ms)).or_default() += 1;
    }

    /// The greatest time wins, the later one in the log wins a tie. Returns by how much the count changes.
    fn switch(
        &mut self,
        metric: &'static str,
        event: &Event,
        active: bool,
        time_ms: i64,
        appended_ms: i64,
    ) -> Option<Switched> {
        let key = (event.actor_id.clone(), metric, event.subject_id.clone());
        let fresh = Switch { active: false, time_ms, since_ms: time_ms, group: None };
        let switch = self.switches.entry(key.clone()).or_insert(fresh);
        if time_ms < switch.time_ms {
            return None;
        }
        let changed = switch.active != active;
        let (since_ms, group) =
            if active && changed { (time_ms, event.group()) } else { (switch.since_ms, switch.group.clone()) };
        *switch = Switch { active, time_ms, since_ms, group: group.clone() };
        if !changed {
            return None;
        }
        let created_at_ms = self.reactions.get(&key).map_or(appended_ms, |reaction| reaction.created_at_ms);
        let reaction = Reaction { active, occurred_at_ms: time_ms, created_at_ms, updated_at_ms: appended_ms };
        self.reactions.insert(key, reaction);
        Some(Switched { change: if active { 1 } else { -1 }, since_ms, group })
    }
}
