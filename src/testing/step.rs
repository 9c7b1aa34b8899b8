//! Reads steps: events, raw records, time, expectations.

use super::case::{AppendedRecord, Step};
use super::expectation::{Section, read_expectation};
use super::moment::moment;
use super::names::Names;
use serde_json::{Map, Number, Value as Json};
use std::collections::BTreeSet;
use std::time::Duration;
use tally_processors::{Actions, event_types, owned_toggle};
use tally_streams::topology::{Entry, Mapping, Report, Span, Topology, Value, Yaml, suggest};

/// What a step can be, besides an event.
const VERBS: &[&str] = &["wait", "clock", "record", "expect", "includes"];
/// The verbs that compare.
const EXPECTATIONS: &[&str] = &["expect", "includes"];
/// Fields of an event that a step may give.
const EVENT_FIELDS: &[&str] = &[
    "type",
    "subject_id",
    "event_id",
    "actor_id",
    "occurred_at",
    "ip",
    "user_agent",
    "duration_ms",
    "properties",
    "at",
    "times",
];
const RECORD_FIELDS: &[&str] = &["record", "key", "at"];
const TIMES_MAX: u32 = 10_000;
const WAIT_MAX: Duration = Duration::from_secs(3_650 * 86_400);

/// Reads the steps of one case.
pub struct Steps<'a> {
    topology: &'a Topology<Actions>,
    names: Names,
    types: BTreeSet<String>,
    /// The types of events that the database numbers.
    owned: Vec<String>,
    start_ms: i64,
    now_ms: i64,
    /// Events so far; the next one is called `e<n + 1>` unless it has an id.
    events: u32,
    steps: Vec<Step>,
}

impl<'a> Steps<'a> {
    /// No steps yet.
    pub fn new(topology: &'a Topology<Actions>, start_ms: i64) -> Self {
        let owned = owned_toggle(topology).map(|toggle| vec![toggle.on, toggle.off]).unwrap_or_default();
        let (names, types) = (Names::of(topology), event_types(topology));
        Self { topology, names, types, owned, start_ms, now_ms: start_ms, events: 0, steps: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The steps.
    pub fn finish(self) -> Vec<Step> {
        self.steps
    }

    /// Reads the list of `given`, which has no expectations.
    pub fn read_given(&mut self, yaml: &Yaml, report: &mut Report<'_>) {
        let before = self.steps.len();
        self.read(yaml, report);
        for step in &self.steps[before..] {
            if let Step::Expect(expectation) = step {
                report.add_with_help(expectation.place, "`given` has no expectations", "move it to `steps`");
            }
        }
    }

    /// Reads the steps of a case. What follows the last expectation would never be compared.
    pub fn read_to_the_end(&mut self, yaml: &Yaml, report: &mut Report<'_>) {
        self.read(yaml, report);
        let Value::List(items) = &yaml.value else { return };
        let expects = |step: &Yaml| match &step.value {
            Value::Map(mapping) => EXPECTATIONS.iter().any(|verb| mapping.get(verb).is_some()),
            // It is reported already.
            _ => true,
        };
        let help = "end the case with `expect: …` or `includes: …`";
        match items.last() {
            None => report.add_with_help(yaml.span, "this case expects nothing", help),
            Some(last) if !expects(last) => {
                report.add_with_help(last.span, "no expectation follows this step", help);
            }
            Some(_) => {}
        }
    }

    /// Reads a list of steps.
    fn read(&mut self, yaml: &Yaml, report: &mut Report<'_>) {
        let Value::List(items) = &yaml.value else {
            report.add(yaml.span, format!("expected a list of steps, found {}", yaml.value), None);
            return;
        };
        for item in items {
            match &item.value {
                Value::Map(mapping) => self.read_step(mapping, item.span, report),
                other => report.add_with_help(
                    item.span,
                    format!("expected a step, found {other}"),
                    "a step is a mapping, such as `like: article:7`, `wait: 1h` or `expect: …`",
                ),
            }
        }
    }

    fn read_step(&mut self, mapping: &Mapping, span: Span, report: &mut Report<'_>) {
        let is_field = |key: &str| EVENT_FIELDS.contains(&key);
        let is_verb = |entry: &&Entry| {
            VERBS.contains(&entry.key.as_str()) || !is_field(&entry.key) && self.types.contains(&entry.key)
        };
        let Some(verb) = mapping.entries.iter().find(is_verb).or_else(|| mapping.get("type")) else {
            let words = self.types.iter().map(String::as_str).chain(VERBS.iter().copied());
            let unknown = mapping.entries.iter().find(|entry| !is_field(&entry.key) && entry.key != "key");
            match unknown {
                Some(entry) => {
                    let help = suggest(&entry.key, words, "steps");
                    report.add(entry.key_span, format!("unknown step `{}`", entry.key), help);
                }
                None => report.add_with_help(span, "this step has no type of event", "write `like: article:7`"),
            }
            return;
        };
        match verb.key.as_str() {
            "wait" => {
                self.check_keys(mapping, &["wait"], "`wait`", report);
                if let Some(duration) = verb.value.duration(Duration::from_millis(1)..=WAIT_MAX, report) {
                    self.now_ms += duration.as_millis() as i64;
                    self.steps.push(Step::Pass(self.now_ms));
                }
            }
            "clock" => {
                self.check_keys(mapping, &["clock"], "`clock`", report);
                let Some(clock_ms) = moment(&verb.value, self.start_ms, report) else { return };
                if self.moves_to(clock_ms, verb.value.span, report) {
                    let margin_ms = self.topology.settings.idle_margin.as_millis() as i64;
                    self.steps.push(Step::Pass(clock_ms + margin_ms));
                }
            }
            "record" => self.read_record(mapping, &verb.value, report),
            "expect" | "includes" => {
                self.check_keys(mapping, &[&verb.key], &format!("`{}`", verb.key), report);
                let is_exact = verb.key == "expect";
                let expectation =
                    read_expectation(&verb.value, verb.key_span, is_exact, self.start_ms, &self.names, report);
                self.steps.extend(expectation.map(Step::Expect));
            }
            _ => self.read_event(mapping, verb, report),
        }
    }

    fn check_keys(&self, mapping: &Mapping, known: &[&str], what: &str, report: &mut Report<'_>) {
        for entry in mapping.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let id = format!("{}_id", entry.key);
            let is_step = || VERBS.contains(&entry.key.as_str()) || self.types.contains(&entry.key);
            let help = match known {
                [verb] if EXPECTATIONS.contains(verb) && !is_step() => {
                    let sections = Section::ALL.map(Section::name);
                    match sections.contains(&entry.key.as_str()) {
                        true => Some(format!("it belongs into `{verb}`: `{verb}: {{ {}: … }}`", entry.key)),
                        false => suggest(&entry.key, sections, &format!("keys of `{verb}`")),
                    }
                }
                [_] => Some("a step does one thing: begin the next one with `- `".to_owned()),
                _ if is_step() => Some("a step does one thing: begin the next one with `- `".to_owned()),
                _ if known.contains(&id.as_str()) => Some(format!("did you mean `{id}`?")),
                _ => suggest(&entry.key, known.iter().copied(), "keys"),
            };
            report.add(entry.key_span, format!("unknown key `{}` of {what}", entry.key), help);
        }
    }

    fn read_record(&mut self, mapping: &Mapping, value: &Yaml, report: &mut Report<'_>) {
        self.check_keys(mapping, RECORD_FIELDS, "`record`", report);
        let value = value.text(report);
        let key = mapping.get("key").and_then(|entry| entry.value.text(report)).map(|key| key.text);
        let append_time_ms = self.append_time(mapping, report);
        let (Some(value), Some(append_time_ms)) = (value, append_time_ms) else { return };
        let record = AppendedRecord { key, value: value.text, sequence: None, append_time_ms };
        self.steps.push(Step::Append(record));
    }

    fn append_time(&mut self, mapping: &Mapping, report: &mut Report<'_>) -> Option<i64> {
        let Some(entry) = mapping.get("at") else { return Some(self.now_ms) };
        let at_ms = moment(&entry.value, self.start_ms, report)?;
        self.moves_to(at_ms, entry.value.span, report).then_some(at_ms)
    }

    /// Time passes to this moment; false, and a report, if it would go back.
    fn moves_to(&mut self, to_ms: i64, span: Span, report: &mut Report<'_>) -> bool {
        if to_ms < self.now_ms {
            let now = super::moment::shown(self.now_ms, self.start_ms);
            let help = format!("it is {now} here already; `occurred_at` may lie before that");
            report.add_with_help(span, "the log's time does not go back", help);
            return false;
        }
        self.now_ms = to_ms;
        true
    }

    fn read_event(&mut self, mapping: &Mapping, verb: &Entry, report: &mut Report<'_>) {
        let mut known = EVENT_FIELDS.to_vec();
        let is_short = verb.key != "type";
        if is_short {
            known.push(&verb.key);
            for key in ["type", "subject_id"] {
                if let Some(entry) = mapping.get(key) {
                    let message = format!("`{}: …` gives type and subject already", verb.key);
                    report.add_with_help(entry.key_span, message, format!("leave out `{key}`"));
                }
            }
        }
        self.check_keys(mapping, &known, "an event", report);
        let text = |key: &str, report: &mut Report<'_>| match mapping.get(key) {
            Some(entry) => entry.value.text(report).map(|name| Some(name.text)),
            None => Some(None),
        };
        let verb_text = verb.value.text(report).map(|name| name.text);
        let subject = text("subject_id", report);
        let (event_id, actor) = (text("event_id", report), text("actor_id", report));
        let (ip, agent) = (text("ip", report), text("user_agent", report));
        let occurred_at = match mapping.get("occurred_at") {
            Some(entry) => moment(&entry.value, self.start_ms, report).map(Some),
            None => Some(None),
        };
        let other = |key: &str, report: &mut Report<'_>| match mapping.get(key) {
            Some(entry) => json(&entry.value, report).map(Some),
            None => Some(None),
        };
        let (duration, properties) = (other("duration_ms", report), other("properties", report));
        let times = match mapping.get("times") {
            Some(entry) => entry.value.integer(1..=TIMES_MAX, report),
            None => Some(1),
        };
        let append_time_ms = self.append_time(mapping, report);
        let read = (|| {
            let verb_text = verb_text?;
            let (kind, subject) = match is_short {
                true => (verb.key.clone(), verb_text),
                false => (verb_text, subject?.unwrap_or_else(|| "article:1".to_owned())),
            };
            let fields = [
                ("ip", ip?.map(Json::String)),
                ("user_agent", agent?.map(Json::String)),
                ("occurred_at", occurred_at?.map(Json::from)),
                ("duration_ms", duration?),
                ("properties", properties?),
            ];
            Some((kind, subject, event_id?, actor?, fields, times?, append_time_ms?))
        })();
        let Some((kind, subject, event_id, actor, fields, times, append_time_ms)) = read else { return };
        for number in 1..=times {
            self.events += 1;
            let numbered = |text: &str| text.replace('#', &number.to_string());
            let event_id = event_id.as_deref().map_or_else(|| format!("e{}", self.events), numbered);
            let actor = actor.as_deref().map_or_else(|| "u1".to_owned(), numbered);
            let mut event = Map::new();
            event.insert("event_id".to_owned(), event_id.into());
            event.insert("type".to_owned(), kind.clone().into());
            event.insert("actor_id".to_owned(), actor.clone().into());
            event.insert("subject_id".to_owned(), numbered(&subject).into());
            for (name, value) in &fields {
                event.extend(value.clone().map(|value| ((*name).to_owned(), value)));
            }
            let sequence = self.owned.contains(&kind).then(|| i64::from(self.events));
            let value = Json::Object(event).to_string();
            self.steps.push(Step::Append(AppendedRecord { key: Some(actor), value, sequence, append_time_ms }));
        }
    }
}

/// A value as JSON; reports what JSON does not have.
pub fn json(yaml: &Yaml, report: &mut Report<'_>) -> Option<Json> {
    Some(match &yaml.value {
        Value::Null | Value::Removed => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(value) => match i64::try_from(*value) {
            Ok(value) => value.into(),
            Err(_) => {
                report.add(yaml.span, format!("the number {value} exceeds 64 bits"), None);
                return None;
            }
        },
        Value::Float(value) => Json::Number(Number::from_f64(*value)?),
        Value::String(value) => value.clone().into(),
        Value::List(items) => Json::Array(items.iter().map(|item| json(item, report)).collect::<Option<_>>()?),
        Value::Map(mapping) => {
            let entries = mapping.entries.iter().map(|entry| Some((entry.key.clone(), json(&entry.value, report)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}
