//! Windows of time in which metrics are counted: their parameters and limits.

use crate::facts::Emit;
use tally_model::WindowSpec;
use tally_streams::topology::{ConfigDuration, ParamError};

/// Changes are counted by the minute.
pub const MINUTE_MS: i64 = 60_000;
const MINUTES_MAX: i64 = 31 * 1_440;
/// The range of [`whole_minutes`], for the reference.
pub const LIMITS: &str = "Whole minutes, 1m to 31d.";
/// The values of `emit`, for the reference.
pub const EMIT: &str = "`on_update`: whenever it has changed, at most once per commit. `on_close`: once, when the window \
                        closes. Only with `windows`.";

/// A duration in minutes, if it is whole minutes from 1m to 31d; otherwise adds an error and returns None.
pub fn whole_minutes(path: &str, duration: ConfigDuration, errors: &mut Vec<ParamError>) -> Option<i64> {
    let millis = i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX);
    let minutes = (millis % MINUTE_MS == 0).then_some(millis / MINUTE_MS);
    let minutes = minutes.filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
    if minutes.is_none() {
        errors.push(ParamError::new(path, "must be whole minutes, from 1m to 31d"));
    }
    minutes
}

/// The lengths of windows in ms. Mistakes in them, or in `emit`, go to `errors`.
pub fn lengths_ms(windows: &[ConfigDuration], emit: Option<Emit>, errors: &mut Vec<ParamError>) -> Vec<i64> {
    let mut lengths: Vec<i64> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let path = format!("windows[{i}]");
        let Some(minutes) = whole_minutes(&path, *window, errors) else { continue };
        if lengths.contains(&(minutes * MINUTE_MS)) {
            errors.push(ParamError::new(path, "is named twice"));
        }
        lengths.push(minutes * MINUTE_MS);
    }
    if emit.is_some() && windows.is_empty() {
        errors.push(ParamError::new("emit", "says when windows are sent, and there are no `windows`"));
    }
    lengths
}

/// Tumbling windows of these lengths in ms.
pub fn tumbling(lengths_ms: &[i64]) -> Vec<WindowSpec> {
    lengths_ms.iter().map(|size_ms| WindowSpec::Tumbling { size_ms: *size_ms }).collect()
}

/// The start of the window of this length that holds a time.
pub fn start_ms(time_ms: i64, window_ms: i64) -> i64 {
    time_ms.div_euclid(window_ms) * window_ms
}
