//! The windows of an `aggregate` node: its parameter `windows`.

use crate::counting::aggregation::AggregateWindow;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::time::Duration;
use tally_model::WindowSpec;
use tally_streams::topology::{ConfigDuration, ParamError, parse_duration};

/// The most windows of a node.
const WINDOWS_MAX: usize = 8;
/// The most hopping windows that an event belongs to.
const HOPS_MAX: i64 = 1_440;
/// The shortest `keep`.
const KEEP_MIN: Duration = Duration::from_secs(3_600);
/// What `emit` does.
pub const EMIT: &str = "says when windows are sent";
/// What a window looks like.
const FORMS: &str = "a duration, { hopping: 1h, every: 5m }, { session: 30m, max: 12h } or { sliding: 10s }";
const SECOND_MS: i64 = 1_000;
/// The longest window, and the longest grace.
pub const DAYS_31_MS: i64 = 31 * 86_400_000;
/// The longest session: about ten years, for sessions of closed days.
const SESSION_MAX_MS: i64 = 3_660 * 86_400_000;

/// A window: the length of tumbling windows, or a mapping.
#[derive(Clone, Debug)]
pub enum WindowParams {
    /// Tumbling windows.
    Tumbling(ConfigDuration),
    /// Any other kind.
    Of(WindowOf),
}

/// Exactly one of the kinds is set.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOf {
    tumbling: Option<ConfigDuration>,
    hopping: Option<ConfigDuration>,
    every: Option<ConfigDuration>,
    session: Option<ConfigDuration>,
    max: Option<ConfigDuration>,
    sliding: Option<ConfigDuration>,
    keep: Option<ConfigDuration>,
}

impl<'de> Deserialize<'de> for WindowParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyWindow;
        impl<'de> Visitor<'de> for AnyWindow {
            type Value = WindowParams;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
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

/// A duration in ms.
pub fn millis(duration: ConfigDuration) -> i64 {
    i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX)
}

/// The windows, as far as they are valid.
pub fn check(windows: &[WindowParams], grace_ms: i64, errors: &mut Vec<ParamError>) -> Vec<AggregateWindow> {
    if windows.len() > WINDOWS_MAX {
        errors.push(ParamError::new("windows", format!("at most {WINDOWS_MAX}")));
    }
    each_once(windows, errors, |path, window, errors| {
        let spec = check_window(window);
        let spec = spec.map_err(|(key, message)| errors.push(ParamError::new(format!("{path}{key}"), message))).ok()?;
        let window = AggregateWindow { keep: keep(window), ..AggregateWindow::new(spec) };
        errors.extend(check_keep(path, &window, grace_ms));
        Some(window)
    })
}

/// The windows of a parameter `windows` that `check` finds valid, each by its path. One that is named twice is a mistake.
pub fn each_once<W>(
    windows: &[W],
    errors: &mut Vec<ParamError>,
    check: impl Fn(&str, &W, &mut Vec<ParamError>) -> Option<AggregateWindow>,
) -> Vec<AggregateWindow> {
    let mut checked: Vec<AggregateWindow> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let path = format!("windows[{i}]");
        let Some(window) = check(&path, window, errors) else { continue };
        match checked.iter().any(|known| known.spec == window.spec) {
            true => errors.push(ParamError::new(path, "is named twice")),
            false => checked.push(window),
        }
    }
    checked
}

/// Reports parameters about windows, each with what it does, that are given to a node without windows.
pub fn refuse_without<const N: usize>(given: [(&str, bool, &str); N], errors: &mut Vec<ParamError>) {
    for (path, _, what) in given.into_iter().filter(|(_, is_given, _)| *is_given) {
        errors.push(ParamError::new(path, format!("{what}, and there are no `windows`")));
    }
}

fn keep(window: &WindowParams) -> Option<Duration> {
    match window {
        WindowParams::Tumbling(_) => None,
        WindowParams::Of(of) => of.keep.map(|keep| keep.0),
    }
}

/// A row of a window that may still change must not be deleted.
fn check_keep(path: &str, kind: &AggregateWindow, grace_ms: i64) -> Option<ParamError> {
    let least = Duration::from_millis(kind.closes_after_ms(grace_ms).unsigned_abs()).max(KEEP_MIN);
    let error = || ParamError::new(format!("{path}.keep"), format!("must be at least {}", ConfigDuration(least)));
    kind.keep.filter(|keep| *keep < least).map(|_| match least > KEEP_MIN {
        true => error().with_help("the window may change for that long after its end"),
        false => error(),
    })
}

/// An error is the key within the window and the message.
fn check_window(window: &WindowParams) -> Result<WindowSpec, (&'static str, String)> {
    let length = |key, duration: ConfigDuration| match millis(duration) {
        ms if (SECOND_MS..=DAYS_31_MS).contains(&ms) => Ok(ms),
        _ => Err((key, "must be from 1s to 31d".to_owned())),
    };
    let WindowOf { tumbling, hopping, every, session, max, sliding, keep: _ } = match window {
        WindowParams::Tumbling(size) => return Ok(WindowSpec::Tumbling { size_ms: length("", *size)? }),
        WindowParams::Of(of) => *of,
    };
    match (tumbling, hopping, every, session, max, sliding) {
        (Some(size), None, None, None, None, None) => Ok(WindowSpec::Tumbling { size_ms: length(".tumbling", size)? }),
        (None, Some(size), Some(every), None, None, None) => {
            let (size_ms, every_ms) = (length(".hopping", size)?, length(".every", every)?);
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
        (None, None, None, Some(gap), Some(max), None) => {
            let (gap_ms, max_ms) = (length(".session", gap)?, millis(max));
            match () {
                () if max_ms <= gap_ms => Err((".max", "must be longer than the gap".to_owned())),
                () if max_ms > SESSION_MAX_MS => Err((".max", "must be at most 3660d".to_owned())),
                () => Ok(WindowSpec::Session { gap_ms, max_ms }),
            }
        }
        (None, None, None, None, None, Some(size)) => Ok(WindowSpec::Sliding { size_ms: length(".sliding", size)? }),
        _ => Err(("", format!("expected {FORMS}"))),
    }
}
