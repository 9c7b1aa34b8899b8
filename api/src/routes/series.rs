//! `GET /v1/subjects/{subject_id}/counters?window=…`: the values of each window, out of the database's
//! `counter_windows`.

use super::query::{Query, listed, refused};
use crate::answers::metric_json::MetricJson;
use crate::answers::window::window_name;
use crate::database::WindowQuery;
use crate::reads::after::After;
use crate::reads::freshness::Freshness;
use crate::reads::totals::RelativeErrors;
use crate::state::Api;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::{MetricValue, WindowSpec, format_ms, looks_like_seconds, parse_ms};
use tally_streams::topology::parse_duration;
use utoipa::ToSchema;

/// Windows in one answer: the most, and where `from` is not given.
const WINDOWS_MAX: i64 = 1_000;
const WINDOWS_DEFAULT: i64 = 30;
/// Times beyond are no times of events.
const TIME_MS_MAX: i64 = 253_402_300_800_000;

/// The values of a subject in each window.
#[derive(Serialize, ToSchema)]
pub struct SeriesAnswer {
    /// The subject.
    subject_id: String,
    /// The window, with the durations of the topology.
    window: String,
    /// Oldest first. Tumbling and hopping windows: every one from the window that contains `from` to the one before `to`.
    /// Sessions and sliding windows: those that exist and overlap the time from `from` to `to`.
    series: Vec<WindowItem>,
    #[serde(flatten)]
    pub freshness: Freshness,
}

/// One window.
#[derive(Serialize, ToSchema)]
pub struct WindowItem {
    /// Start of the window (RFC 3339); tumbling and hopping windows are aligned to 1970.
    start: String,
    /// End of the window (RFC 3339), exclusive.
    end: String,
    /// Tumbling and hopping windows: every metric that has such windows. Without events: 0, or null for minima, maxima,
    /// averages, quantiles, first and last values. Sessions and sliding windows: the metrics that have this one.
    #[schema(value_type = HashMap<String, MetricJson>)]
    counters: BTreeMap<Arc<str>, MetricValue>,
    /// The metrics that are estimates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    approximate: Vec<Arc<str>>,
    /// Their relative errors: 0.01 is 1 %. The standard error of a distinct count, the largest error of a quantile.
    #[serde(skip_serializing_if = "RelativeErrors::is_empty")]
    #[schema(value_type = HashMap<String, f64>, required = false)]
    relative_errors: RelativeErrors,
}

/// The requested windows.
struct Span {
    /// The earliest and the latest start.
    starts_ms: (i64, i64),
    ends_after_ms: i64,
    /// From the start of a window to that of the next, where every window is in the answer.
    step_ms: Option<i64>,
    /// The most windows; beyond it, `is_open` drops the oldest, and otherwise the request is refused.
    windows_max: i64,
    is_open: bool,
}

/// Answers a request with `window`.
pub async fn series(
    api: &Arc<Api>,
    subject_id: String,
    query: &Query<'_>,
    after: Option<After>,
) -> Result<SeriesAnswer, ApiProblem> {
    let (window, metrics) = window(api, query)?;
    let span = span(query, window, (api.clock)().wall_ms)?;
    // Windows come from one topic; where the topology has any, it has that.
    let topic = api.reads.config.windows_topic.as_ref().ok_or_else(ApiProblem::internal)?;
    let freshness = api.reads.database_freshness(topic, after.as_ref()).await?;
    let template = &api.reads.template;
    // Keyed by start and end: sessions of several nodes may differ in either.
    let mut items = BTreeMap::<(i64, i64), BTreeMap<Arc<str>, MetricValue>>::new();
    if let (Some(step_ms), Some(size_ms), (first_ms, last_ms)) = (span.step_ms, window.size_ms(), span.starts_ms) {
        let untouched: BTreeMap<_, _> =
            metrics.iter().map(|metric| (template.name(metric), template.of_nothing(metric))).collect();
        let starts = (0..=(last_ms - first_ms) / step_ms).map(|i| first_ms + i * step_ms);
        items.extend(starts.map(|start_ms| ((start_ms, start_ms + size_ms), untouched.clone())));
    }
    // One more than fit, to notice that there are more.
    let rows_max = usize::try_from(span.windows_max + 1).unwrap_or(0) * metrics.len();
    let (starts_ms, ends_after_ms) = (span.starts_ms, span.ends_after_ms);
    let subject = &subject_id;
    let windows = WindowQuery { subject_id: subject, metrics: &metrics, window, starts_ms, ends_after_ms, rows_max };
    for row in api.reads.database.windows(&windows).await? {
        let (metric, value) = template.named(&row.metric, row.value);
        match items.get_mut(&(row.start_ms, row.end_ms)) {
            Some(item) => drop(item.insert(metric, value)),
            None if span.step_ms.is_none() => {
                items.insert((row.start_ms, row.end_ms), BTreeMap::from([(metric, value)]));
            }
            // Of another alignment than the topology has now.
            None => {}
        }
    }
    while items.len() as i64 > span.windows_max {
        if !span.is_open {
            let rule = format!("covers more than {WINDOWS_MAX} windows; name a shorter time");
            return Err(refused("`from` to `to`", &rule));
        }
        items.pop_first();
    }
    let item = |((start_ms, end_ms), counters): ((i64, i64), BTreeMap<Arc<str>, MetricValue>)| {
        let (approximate, relative_errors) = template.estimates(counters.iter());
        let (start, end) = (format_ms(start_ms), format_ms(end_ms));
        WindowItem { start, end, counters, approximate, relative_errors }
    };
    Ok(SeriesAnswer {
        subject_id,
        window: window_name(window),
        series: items.into_iter().map(item).collect(),
        freshness,
    })
}

/// The requested window, and the requested metrics, which have such windows.
fn window<'a>(api: &'a Api, query: &'a Query<'_>) -> Result<(WindowSpec, Vec<&'a str>), ApiProblem> {
    let windows = &api.reads.config.windows;
    let text = query.one("window")?.unwrap_or_default();
    let found = match text.split(':').collect::<Vec<_>>()[..] {
        ["hopping", size, every] => {
            let wanted = WindowSpec::Hopping { size_ms: millis(size)?, every_ms: millis(every)? };
            windows.get_key_value(&wanted)
        }
        ["sliding", size] => windows.get_key_value(&WindowSpec::Sliding { size_ms: millis(size)? }),
        ["session", gap, max] => {
            windows.get_key_value(&WindowSpec::Session { gap_ms: millis(gap)?, max_ms: millis(max)? })
        }
        ["session", gap] => {
            let wanted = millis(gap)?;
            let mut found = windows
                .iter()
                .filter(|(window, _)| matches!(window, WindowSpec::Session { gap_ms, .. } if *gap_ms == wanted));
            // Where several sessions have this gap, their length has to be named as well.
            found.next().filter(|_| found.next().is_none())
        }
        [size] => windows.get_key_value(&WindowSpec::Tumbling { size_ms: millis(size)? }),
        _ => None,
    };
    let (window, metrics) = found.ok_or_else(|| {
        let known = listed(windows.keys().map(|window| window_name(*window)));
        refused("`window`", &format!("{text:?} is not a window of the topology; windows: {known}"))
    })?;
    let wanted = query.all("metric");
    if let Some(unknown) = wanted.iter().find(|wanted| metrics.iter().all(|metric| metric != *wanted)) {
        let rule = format!(
            "{unknown:?} has no windows `{}`; metrics that have them: {}",
            window_name(*window),
            listed(metrics)
        );
        return Err(refused("`metric`", &rule));
    }
    Ok((*window, if wanted.is_empty() { metrics.iter().map(String::as_str).collect() } else { wanted }))
}

/// A duration in ms.
fn millis(text: &str) -> Result<i64, ApiProblem> {
    let duration = parse_duration(text).map_err(|rule| refused("`window`", &rule))?;
    Ok(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// The windows between `from` and `to`.
fn span(query: &Query<'_>, window: WindowSpec, now_ms: i64) -> Result<Span, ApiProblem> {
    let to_ms = time(query, "to")?.unwrap_or(now_ms + 1);
    let from_ms = time(query, "from")?;
    if from_ms.is_some_and(|from_ms| from_ms >= to_ms) {
        return Err(refused("`from`", "must be before `to`"));
    }
    let (step_ms, length_ms_max) = match window {
        WindowSpec::Tumbling { size_ms } => (size_ms, size_ms),
        WindowSpec::Hopping { size_ms, every_ms } => (every_ms, size_ms),
        WindowSpec::Session { gap_ms, max_ms } => return Ok(existing(from_ms, to_ms, max_ms.saturating_add(gap_ms))),
        // Both ends belong to a sliding window.
        WindowSpec::Sliding { size_ms } => return Ok(existing(from_ms, to_ms, size_ms.saturating_add(1))),
    };
    let last_ms = (to_ms - 1).div_euclid(step_ms) * step_ms;
    let first_ms = from_ms.map(|from_ms| from_ms.div_euclid(step_ms) * step_ms);
    let first_ms = first_ms.unwrap_or(last_ms - (WINDOWS_DEFAULT - 1) * step_ms);
    let starts_ms = (first_ms, last_ms);
    let ends_after_ms = first_ms.saturating_sub(length_ms_max);
    match (last_ms - first_ms) / step_ms + 1 {
        windows_max @ 1..=WINDOWS_MAX => {
            Ok(Span { starts_ms, ends_after_ms, step_ms: Some(step_ms), windows_max, is_open: false })
        }
        count => Err(refused("`from` to `to`", &format!("covers {count} windows; the maximum is {WINDOWS_MAX}"))),
    }
}

/// The windows that exist and overlap a time; without its beginning, the last of them.
fn existing(from_ms: Option<i64>, to_ms: i64, length_ms_max: i64) -> Span {
    let first_ms = from_ms.map_or(i64::MIN, |from_ms| from_ms.saturating_sub(length_ms_max));
    Span {
        starts_ms: (first_ms, to_ms - 1),
        ends_after_ms: from_ms.unwrap_or(i64::MIN),
        step_ms: None,
        windows_max: from_ms.map_or(WINDOWS_DEFAULT, |_| WINDOWS_MAX),
        is_open: from_ms.is_none(),
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
