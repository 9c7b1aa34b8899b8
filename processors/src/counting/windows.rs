//! Windows of time in which metrics are counted: their parameters and limits.

use tally_streams::topology::{ConfigDuration, ParamError};

/// An hour.
pub const HOUR_MS: i64 = 3_600_000;
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
