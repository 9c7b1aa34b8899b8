//! `GET /v1/subjects/{subject_id}/counters?window=…`: what was counted in each window, out of the database's
//! `counter_windows`.

use super::query::{Query, listed, refused};
use crate::reads::after::After;
use crate::reads::freshness::Freshness;
use crate::state::Api;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::{format_ms, looks_like_seconds, parse_ms};
use tally_streams::topology::{ConfigDuration, parse_duration};
use utoipa::ToSchema;

/// Windows in one answer: the most, and where `from` is not given.
const WINDOWS_MAX: i64 = 1_000;
const WINDOWS_DEFAULT: i64 = 30;
/// Times beyond are no times of events.
const TIME_MS_MAX: i64 = 253_402_300_800_000;

/// What was counted of a subject in each window.
#[derive(Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// The subject.
    subject_id: String,
    /// The window length, as in the topology.
    window: String,
    /// Every window from the one that contains `from` to the one before `to`, oldest first.
    series: Vec<WindowItem>,
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// One window.
#[derive(Serialize, ToSchema)]
pub struct WindowItem {
    /// Start of the window (RFC 3339); windows are aligned to 1970.
    start: String,
    /// Every metric with windows of this length; zero without events.
    #[schema(value_type = HashMap<String, i64>)]
    counters: BTreeMap<Arc<str>, i64>,
    /// The metrics that are estimates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    approximate: Vec<Arc<str>>,
}

/// Answers a request with `window`.
pub async fn series(
    api: &Arc<Api>,
    subject_id: String,
    query: &Query<'_>,
    after: Option<After>,
) -> Result<SeriesAnswer, ApiProblem> {
    let (window_ms, metrics) = window(api, query)?;
    let (first_ms, last_ms) = span(query, window_ms, (api.clock)().wall_ms)?;
    // Windows come from one topic; where the topology has any, it has that.
    let topic = api.reads.config.windows_topic.as_ref().ok_or_else(ApiProblem::internal)?;
    let freshness = api.reads.database_freshness(topic, after.as_ref()).await?;
    let rows = api.reads.database.windows(&subject_id, metrics, window_ms, first_ms, last_ms).await?;
    let names: HashMap<_, Arc<str>> = metrics.iter().map(|name| (name.as_str(), name.as_str().into())).collect();
    let zeros: BTreeMap<_, _> = names.values().map(|name| (name.clone(), 0)).collect();
    let starts = (0..=(last_ms - first_ms) / window_ms).map(|i| first_ms + i * window_ms);
    let mut items: Vec<_> = starts
        .map(|start| WindowItem { start: format_ms(start), counters: zeros.clone(), approximate: Vec::new() })
        .collect();
    for (metric, start_ms, value) in rows {
        let item = usize::try_from((start_ms - first_ms) / window_ms).ok().and_then(|index| items.get_mut(index));
        if let (Some(item), Some(name)) = (item, names.get(metric.as_str())) {
            item.counters.insert(name.clone(), value);
        }
    }
    for item in &mut items {
        let counters = item.counters.iter().map(|(metric, value)| (metric, *value));
        item.approximate = api.reads.template.estimates(counters).cloned().collect();
    }
    Ok(SeriesAnswer { subject_id, window: written(window_ms), series: items, freshness })
}

/// The requested window, and the metrics that are counted in it.
fn window<'a>(api: &'a Api, query: &Query<'_>) -> Result<(i64, &'a [String]), ApiProblem> {
    let windows = &api.reads.config.windows;
    let text = query.one("window")?.unwrap_or_default();
    let length = parse_duration(text).map_err(|rule| refused("`window`", &rule))?;
    let found = windows.iter().find(|(window_ms, _)| i128::from(**window_ms) == length.as_millis() as i128);
    found.map(|(window_ms, metrics)| (*window_ms, metrics.as_slice())).ok_or_else(|| {
        let known = listed(windows.keys().map(|window_ms| written(*window_ms)));
        refused("`window`", &format!("{text:?} is not a window length of the topology; window lengths: {known}"))
    })
}

/// As in the topology.
fn written(window_ms: i64) -> String {
    ConfigDuration(std::time::Duration::from_millis(window_ms.unsigned_abs())).to_string()
}

/// The starts of the first and the last requested window.
fn span(query: &Query<'_>, window_ms: i64, now_ms: i64) -> Result<(i64, i64), ApiProblem> {
    let to_ms = time(query, "to")?.unwrap_or(now_ms + 1);
    let last_ms = (to_ms - 1).div_euclid(window_ms) * window_ms;
    let first_ms = match time(query, "from")? {
        Some(from_ms) if from_ms >= to_ms => return Err(refused("`from`", "must be before `to`")),
        Some(from_ms) => from_ms.div_euclid(window_ms) * window_ms,
        None => last_ms - (WINDOWS_DEFAULT - 1) * window_ms,
    };
    match (last_ms - first_ms) / window_ms + 1 {
        1..=WINDOWS_MAX => Ok((first_ms, last_ms)),
        count => Err(refused("`from` to `to`", &format!("covers {count} windows; the maximum is {WINDOWS_MAX}"))),
    }
}

fn time(query: &Query<'_>, name: &str) -> Result<Option<i64>, ApiProblem> {
    let Some(text) = query.one(name)? else { return Ok(None) };
    let wrong = |rule: &str| refused(&format!("`{name}`"), rule);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let time_ms = if is_number { text.parse().ok() } else { parse_ms(text) };
    let time_ms = time_ms.filter(|ms| (0..=TIME_MS_MAX).contains(ms));
    let time_ms = time_ms.ok_or_else(|| wrong("must be a time in RFC 3339, or in milliseconds since 1970"))?;
    match is_number && looks_like_seconds(time_ms) {
        true => Err(wrong(&format!("is in seconds; use milliseconds, {time_ms}000, or RFC 3339"))),
        false => Ok(Some(time_ms)),
    }
}
