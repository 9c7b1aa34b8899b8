//! The parameters of an `aggregate` node.

use super::Aggregate;
use super::values::{ValueParams, check_values};
use crate::counting::aggregation::{AggregateWindow, Aggregation};
use crate::expression::{Expression, FIELDS, Fault, Wanted};
use crate::facts::Emit;
use crate::params::{code, one_of, params};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tally_model::{WindowSpec, check_event_type};
use tally_streams::topology::{ConfigDuration, ParamError, parse_duration};

/// The most windows of a node.
const WINDOWS_MAX: usize = 8;
/// The most hopping windows that an event belongs to.
const HOPS_MAX: i64 = 1_440;
const SECOND_MS: i64 = 1_000;
const DAYS_31_MS: i64 = 31 * 86_400_000;

params! {
    /// Parameters of `type: aggregate`.
    pub struct AggregateParams {
        /// Types of the events to aggregate. At least one.
        #[param("list of event types", default = "every type")]
        pub events: Option<Vec<String>>,
        /// [CEL](#cel-expressions) condition over the fields of an event: events for which it is false are not aggregated.
        #[param("CEL", name = "where", default = "every event counts")]
        pub condition: Option<String>,
        /// [CEL](#cel-expressions) expression that gives the id of the subject to aggregate for, or a list of ids; or several such
        /// expressions. For null, the event is not aggregated.
        #[param("CEL or list of CEL", default = "`subject_id`")]
        pub subject: Option<SubjectParams>,
        /// [Values](#values) to compute, each a metric `<node>.<value>` of at most 64 bytes. From 1 to 32.
        #[param("mapping of name to value")]
        pub values: BTreeMap<String, ValueParams>,
        /// [Windows](#windows) to compute the values in, each once. At most 8.
        #[param("list of windows", default = "none")]
        #[serde(default)]
        pub windows: Vec<WindowParams>,
        /// How long a window takes events after its end, by append time. Only with `windows`.
        #[param("duration", default = "`0s`", limits = "Up to 31d.")]
        pub grace: Option<ConfigDuration>,
        /// When the values of a window are written.
        #[param(
            one_of([Emit::OnUpdate, Emit::OnClose]),
            default = code(Emit::default()),
            limits = crate::counting::windows::EMIT
        )]
        pub emit: Option<Emit>,
        /// Whether the values are computed for all time as well. False only with `windows`.
        #[param("bool", default = "`true`")]
        pub totals: Option<bool>,
    }
}

/// The expression of a subject, or those of several.
#[derive(Clone, Debug)]
pub struct SubjectParams {
    sources: Vec<String>,
    is_list: bool,
}

impl<'de> Deserialize<'de> for SubjectParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = SubjectParams;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an expression or a list of expressions")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<SubjectParams, E> {
                Ok(SubjectParams { sources: vec![text.to_owned()], is_list: false })
            }
            fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<SubjectParams, S::Error> {
                let sources = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(SubjectParams { sources, is_list: true })
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// A window: the length of tumbling windows, or a mapping.
#[derive(Clone, Debug)]
pub enum WindowParams {
    /// Tumbling windows.
    Tumbling(ConfigDuration),
    /// Any other kind.
    Of(WindowOf),
}

/// Exactly one of the kinds is set.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOf {
    hopping: Option<ConfigDuration>,
    every: Option<ConfigDuration>,
    session: Option<ConfigDuration>,
    max: Option<ConfigDuration>,
    sliding: Option<ConfigDuration>,
}

impl<'de> Deserialize<'de> for WindowParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyWindow;
        impl<'de> Visitor<'de> for AnyWindow {
            type Value = WindowParams;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, { hopping: 1h, every: 5m }, { session: 30m, max: 12h } or { sliding: 10s }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<WindowParams, E> {
                parse_duration(text).map(ConfigDuration).map(WindowParams::Tumbling).map_err(E::custom)
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<WindowParams, M::Error> {
                WindowOf::deserialize(MapAccessDeserializer::new(map)).map(WindowParams::Of)
            }
        }
        deserializer.deserialize_any(AnyWindow)
    }
}

impl AggregateParams {
    /// Checks everything that needs no other node.
    pub fn check(self, node: &str) -> Result<Aggregate, Vec<ParamError>> {
        let Self { events, condition, subject, values, windows, grace, emit, totals } = self;
        let mut errors = Vec::new();
        check_events(events.as_deref(), &mut errors);
        let condition = Expression::condition(condition, &mut errors);
        let subjects = check_subjects(subject, &mut errors);
        let (values, arguments) = check_values(node, &values, &mut errors);
        let kinds = check_windows(&windows, &mut errors);
        let grace_ms = millis(grace.unwrap_or_default());
        if grace_ms > DAYS_31_MS {
            errors.push(ParamError::new("grace", "must be at most 31d"));
        }
        let totals_given = totals.unwrap_or(true);
        for (path, given, what) in [
            ("grace", grace.is_some(), "says how long windows take events"),
            ("emit", emit.is_some(), "says when windows are sent"),
            ("totals", !totals_given, "leaves nothing to compute"),
        ] {
            if given && windows.is_empty() {
                errors.push(ParamError::new(path, format!("{what}, and there are no `windows`")));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let aggregation = Aggregation {
            node: node.into(),
            values,
            windows: kinds,
            grace_ms,
            emit: emit.unwrap_or_default(),
            totals: totals_given,
        };
        let event_types = events.unwrap_or_default();
        Ok(Aggregate { aggregation: Arc::new(aggregation), event_types, condition, subjects, arguments })
    }
}

fn millis(duration: ConfigDuration) -> i64 {
    i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn add_faults(path: &str, faults: Vec<Fault>, errors: &mut Vec<ParamError>) {
    errors.extend(faults.into_iter().map(|fault| fault.in_param(path)));
}

/// The expressions of the subjects; None is the event's own.
fn check_subjects(subject: Option<SubjectParams>, errors: &mut Vec<ParamError>) -> Vec<Option<Expression>> {
    let Some(SubjectParams { sources, is_list }) = subject else { return vec![None] };
    if sources.is_empty() {
        errors.push(ParamError::new("subject", "needs at least one expression"));
    }
    let mut subjects = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let path = if is_list { format!("subject[{i}]") } else { "subject".to_owned() };
        if source.trim() == "subject_id" {
            subjects.push(None);
            continue;
        }
        let expression = Expression::compile(source, FIELDS, Wanted::Texts);
        let expression = expression.and_then(|expression| expression.subject_kinds().map(|_| expression));
        match expression {
            Ok(expression) => subjects.push(Some(expression)),
            Err(faults) => add_faults(&path, faults, errors),
        }
    }
    subjects
}

fn check_events(events: Option<&[String]>, errors: &mut Vec<ParamError>) {
    if events.is_some_and(<[String]>::is_empty) {
        errors.push(ParamError::new("events", "needs at least one event type"));
    }
    for (i, event_type) in events.unwrap_or_default().iter().enumerate() {
        if let Err(rule) = check_event_type(event_type) {
            errors.push(ParamError::new(format!("events[{i}]"), rule));
        } else if events.unwrap_or_default()[..i].contains(event_type) {
            errors.push(ParamError::new(format!("events[{i}]"), "is named twice"));
        }
    }
}

fn check_windows(windows: &[WindowParams], errors: &mut Vec<ParamError>) -> Vec<AggregateWindow> {
    let mut kinds: Vec<AggregateWindow> = Vec::new();
    if windows.len() > WINDOWS_MAX {
        errors.push(ParamError::new("windows", format!("at most {WINDOWS_MAX}")));
    }
    for (i, window) in windows.iter().enumerate() {
        let path = format!("windows[{i}]");
        match check_window(window) {
            Err((key, message)) => errors.push(ParamError::new(format!("{path}{key}"), message)),
            Ok(spec) if kinds.iter().any(|kind| kind.spec == spec) => {
                errors.push(ParamError::new(path, "is named twice"))
            }
            Ok(spec) => kinds.push(AggregateWindow::new(spec)),
        }
    }
    kinds
}

/// An error is the key within the window and the message.
fn check_window(window: &WindowParams) -> Result<WindowSpec, (&'static str, String)> {
    let length = |key, duration: ConfigDuration| match millis(duration) {
        ms if (SECOND_MS..=DAYS_31_MS).contains(&ms) => Ok(ms),
        _ => Err((key, "must be from 1s to 31d".to_owned())),
    };
    match window {
        WindowParams::Tumbling(size) => Ok(WindowSpec::Tumbling { size_ms: length("", *size)? }),
        WindowParams::Of(WindowOf {
            hopping: Some(size),
            every: Some(every),
            session: None,
            max: None,
            sliding: None,
        }) => {
            let (size_ms, every_ms) = (length(".hopping", *size)?, length(".every", *every)?);
            match () {
                () if every_ms > size_ms => Err((".every", "must be at most the size of the windows".to_owned())),
                () if every_ms == size_ms => {
                    Err((".every", "is the size: name tumbling windows by their length alone".to_owned()))
                }
                () if size_ms / every_ms > HOPS_MAX => {
                    Err((".every", format!("puts an event into more than {HOPS_MAX} windows")))
                }
                () => Ok(WindowSpec::Hopping { size_ms, every_ms }),
            }
        }
        WindowParams::Of(WindowOf {
            session: Some(gap),
            max: Some(max),
            hopping: None,
            every: None,
            sliding: None,
        }) => {
            let (gap_ms, max_ms) = (length(".session", *gap)?, length(".max", *max)?);
            match max_ms <= gap_ms {
                true => Err((".max", "must be longer than the gap".to_owned())),
                false => Ok(WindowSpec::Session { gap_ms, max_ms }),
            }
        }
        WindowParams::Of(WindowOf { sliding: Some(size), hopping: None, every: None, session: None, max: None }) => {
            Ok(WindowSpec::Sliding { size_ms: length(".sliding", *size)? })
        }
        WindowParams::Of(_) => {
            let forms = "{ hopping: 1h, every: 5m }, { session: 30m, max: 12h } or { sliding: 10s }";
            Err(("", format!("expected a duration, {forms}")))
        }
    }
}
