//! Windows of time that metrics are counted in: what their nodes say about them.

use crate::facts::Emit;
use tally_streams::topology::{ConfigDuration, ParamError};

/// Changes are counted by the minute.
pub const MINUTE_MS: i64 = 60_000;
/// Windows are whole minutes, at most 31 days.
const WINDOW_MS_MAX: i64 = 31 * 86_400_000;

/// The lengths of windows in ms. What is wrong with them, or with `emit`, goes to `errors`.
pub fn lengths_ms(windows: &[ConfigDuration], emit: Option<Emit>, errors: &mut Vec<ParamError>) -> Vec<i64> {
    let mut lengths: Vec<i64> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let window_ms = i64::try_from(window.0.as_millis()).unwrap_or(i64::MAX);
        if window_ms % MINUTE_MS != 0 || !(MINUTE_MS..=WINDOW_MS_MAX).contains(&window_ms) {
            errors.push(ParamError::new(format!("windows[{i}]"), "must be whole minutes, from 1m to 31d"));
        } else if lengths.contains(&window_ms) {
            errors.push(ParamError::new(format!("windows[{i}]"), "is named twice"));
        }
        lengths.push(window_ms);
    }
    if emit.is_some() && lengths.is_empty() {
        errors.push(ParamError::new("emit", "says when windows are sent, and there are no `windows`"));
    }
    lengths
}

/// The start of the window of this length that holds a time.
pub fn start_ms(time_ms: i64, window_ms: i64) -> i64 {
    time_ms.div_euclid(window_ms) * window_ms
}
