//! `GET /v1/live`: server-sent events, whenever counters or a board change.
//!
//! One task tells all readers of the changes that the cache in this process has taken in ([`tell`]), at most once in
//! [`ROUND`]; an event is written once, whoever reads it. A second one looks after subjects of which the cache does not
//! say every change: they were passed over before somebody asked, or there is no cache that may be believed. They are read
//! as any other request reads them. A third one does the same for boards.

mod event;
mod hub;
mod stream;

use crate::metrics::LiveMetrics;
use crate::reads::freshness::Freshness;
use crate::reads::roots::clock_ms;
use crate::routes::counters::{self, SubjectAnswer};
use crate::routes::query::{Query, refused};
use crate::routes::rankings;
use crate::routes::reply::{Written, digest};
use crate::state::Api;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use event::Content;
use hub::{HEARTBEAT_SECONDS, Hub, Watched};
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;
use stream::Stream;
use tally_cache::{CachedCounters, MemoryCache};
use tally_http::ApiProblem;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// Between two events of a subject there is at least this.
const ROUND: Duration = Duration::from_millis(100);
/// And between two of a board.
const BOARD_ROUND: Duration = Duration::from_millis(250);
/// How often a board is read where nobody tells that it has changed.
const BOARD_AGE_MAX: Duration = Duration::from_secs(1);
/// How often those are read that nobody tells of, and how many of them at once.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
const SETTLE_MAX: usize = 1_000;
/// Subjects of one stream.
const SUBJECTS_MAX: usize = 100;
/// When to come back where all streams are taken.
const RETRY_AFTER_S: u32 = 5;

/// How many streams there may be, and when they end.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Open streams; one more gets 503.
    pub streams_max: usize,
    /// Ends all of them.
    pub stopping: CancellationToken,
}

/// The streams of a process.
pub struct Live {
    hub: Arc<Hub>,
    slots: Arc<Semaphore>,
    config: LiveConfig,
    metrics: LiveMetrics,
}

impl Live {
    /// Without readers.
    pub fn new(config: LiveConfig, process: u64, metrics: LiveMetrics) -> Self {
        let slots = Arc::new(Semaphore::new(config.streams_max.min(Semaphore::MAX_PERMITS)));
        Self { hub: Hub::new(process, metrics.clone()), slots, config, metrics }
    }
}

/// The counters of some subjects, or a board, whenever they change: server-sent events.
///
/// The present state comes first; with `Last-Event-ID`, what of it has changed since that event. Events of one subject
/// come at most every 100 ms, those of a board every 250 ms, and say the latest.
#[utoipa::path(
    get,
    path = "/v1/live",
    tag = "live",
    params(
        ("subject_id" = Option<Vec<String>>, Query, description = "1 to 100 times"),
        ("board" = Option<String>, Query, description = "Instead of subjects: a board"),
        ("access_token" = Option<String>, Query, description = "For browsers, which send no headers with such a request: what `Authorization` would carry"),
        ("last-event-id" = Option<String>, Header, description = "The `id` of the last event of this same stream"),
    ),
    responses(
        (status = 200, description = "Events `counters` (as `GET /v1/subjects/{subject_id}/counters` answers) or `ranking` (as the first page of `GET /v1/rankings/{board}`)", body = String, content_type = "text/event-stream"),
        (status = 400, description = "An id or parameter that is not valid", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No such board; the detail names those that there are", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "All streams are taken, or the database does not answer; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn live(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["subject_id", "board", "access_token"])?;
    let of = asked(&query)?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let live = &api.live;
    let Ok(slot) = live.slots.clone().try_acquire_owned() else {
        live.metrics.refused.inc();
        let detail = format!("All {} live streams of this process are taken.", live.config.streams_max);
        return Err(ApiProblem::unavailable(detail, RETRY_AFTER_S));
    };
    let watch = |watched: &Watched| {
        if let (Some(id), Some(cache)) = (watched.subject(), &api.loader.cache) {
            cache.watch(id);
        }
    };
    let stream = Stream::join(&live.hub, of.clone(), slot, watch)
        .ok_or_else(|| ApiProblem::unavailable("This process is stopping.", 1))?;
    match &of[..] {
        [Watched::Board(board)] => publish_board(&api, board, None).await?,
        subjects => {
            let ids: Vec<_> = subjects.iter().filter_map(Watched::subject).map(|id| &**id).collect();
            publish_subjects(&api, &ids).await?
        }
    }
    stream.begin(seen);
    let mut response = Response::new(Body::new(stream));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For nginx, which would collect events until there are enough of them.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// What a stream is to be about, each once.
fn asked(query: &Query<'_>) -> Result<Box<[Watched]>, ApiProblem> {
    let subjects = query.all("subject_id");
    if let Some(board) = query.one("board")? {
        return match subjects[..] {
            [] => Ok(Box::new([Watched::Board(board.into())])),
            _ => Err(refused("`board`", "cannot be asked for together with `subject_id`")),
        };
    }
    if subjects.is_empty() || subjects.len() > SUBJECTS_MAX {
        let rule = format!("must be given 1 to {SUBJECTS_MAX} times, not {}; or a `board` instead", subjects.len());
        return Err(refused("`subject_id`", &rule));
    }
    let mut of: Vec<Watched> = Vec::with_capacity(subjects.len());
    for id in subjects {
        crate::routes::query::subject_id(id)?;
        let watched = Watched::Subject(id.into());
        if !of.contains(&watched) {
            of.push(watched);
        }
    }
    Ok(of.into())
}

/// Starts the tasks behind the streams. They end with the API, or when it stops. Call it within a tokio runtime.
pub fn start(api: &Arc<Api>) {
    let (hub, stopping) = (api.live.hub.clone(), api.live.config.stopping.clone());
    let tasks = (fan_out(Arc::downgrade(api)), settle(Arc::downgrade(api)), follow_boards(Arc::downgrade(api)));
    tokio::spawn(async move {
        stopping.run_until_cancelled(tasks.0).await;
        hub.close();
    });
    let stopping = api.live.config.stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(tasks.1).await });
    let stopping = api.live.config.stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(tasks.2).await });
}

/// Returns when a cache has moved; false where it is gone. Where there is none, never.
async fn moved(progress: &mut Option<watch::Receiver<u64>>) -> bool {
    match progress {
        Some(progress) => progress.changed().await.is_ok(),
        None => pending().await,
    }
}

/// The one task that all readers of counters hang on.
async fn fan_out(api: Weak<Api>) {
    let subscribe = |api: Arc<Api>| api.loader.cache.as_ref().map(|cache| cache.subscribe());
    let mut progress = api.upgrade().and_then(subscribe);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = 0;
    loop {
        let has_moved = tokio::select! {
            _ = seconds.tick() => None,
            has_moved = moved(&mut progress) => Some(has_moved),
        };
        let Some(api) = api.upgrade().filter(|_| has_moved != Some(false)) else { return };
        if has_moved.is_none() {
            second += 1;
            look_after(&api, second);
            continue;
        }
        tell(&api);
        drop(api);
        sleep(ROUND).await;
    }
}

/// Tells all readers what has changed.
fn tell(api: &Api) {
    let Some(cache) = &api.loader.cache else { return };
    // The clocks before the changes: they are at least as new.
    let clocks: Vec<_> = api.loader.partitions().iter().map(|p| clock_ms(&cache.roots(p)).unwrap_or(0)).collect();
    for (id, counters) in cache.changes() {
        let clock_ms = clocks.get(api.loader.partition(&id).partition as usize).copied().unwrap_or(0);
        publish(api, id, counters, Freshness::new(clock_ms));
    }
}

/// Heartbeats, and what nobody reads any more.
fn look_after(api: &Api, second: u64) {
    api.live.hub.beat(second);
    if second.is_multiple_of(HEARTBEAT_SECONDS) {
        api.live.hub.sweep(|watched| {
            if let (Some(id), Some(cache)) = (watched.subject(), &api.loader.cache) {
                cache.unwatch(id);
            }
        });
    }
}

/// Content as it is sent; one that cannot be written as JSON is not there.
fn publish(api: &Api, id: Arc<str>, counters: Arc<CachedCounters>, freshness: Freshness) {
    let (version, as_of_ms) = (counters.version, freshness.as_of_ms());
    let answer = SubjectAnswer::new(api, (*id).to_owned(), counters, freshness);
    let Ok(written) = Written::of(&answer) else { return };
    let digest = written.digest();
    let content = Content { name: "counters", json: written.json, digest, version, as_of_ms };
    api.live.hub.publish(&Watched::Subject(id), &content);
}

/// Reads subjects as any request does, and tells their readers.
async fn publish_subjects(api: &Arc<Api>, ids: &[&str]) -> Result<(), ApiProblem> {
    let (counters, freshness) = counters::read(api, ids, None).await?;
    for (id, counters) in ids.iter().zip(counters) {
        publish(api, (*id).into(), counters, freshness.clone());
    }
    Ok(())
}

/// Reads a board, and tells its readers unless they have seen this version.
async fn publish_board(api: &Arc<Api>, board: &str, seen: Option<i64>) -> Result<(), ApiProblem> {
    let rankings = rankings::known(api, board).await?;
    let (found, freshness) = rankings::find(api, rankings, board, None).await?;
    let version = found.as_ref().map_or(0, |ranking| ranking.version);
    if seen == Some(version) {
        return Ok(());
    }
    let items = found.as_ref().map_or(&[][..], |ranking| &ranking.items);
    let told: Vec<_> = items.iter().map(|item| (&item.subject_id, item.score)).collect();
    let told = serde_json::to_vec(&(board, told)).map_err(|_| ApiProblem::internal())?;
    let page = rankings::first_page(api, board, found.as_deref(), freshness).await?;
    let (digest, as_of_ms) = (digest(&told), page.freshness.as_of_ms());
    let content = Content { name: "ranking", json: Written::of(&page)?.json, digest, version, as_of_ms };
    api.live.hub.publish(&Watched::Board(board.into()), &content);
    Ok(())
}

/// Looks after subjects of which the cache does not say every change.
async fn settle(api: Weak<Api>) {
    let mut epoch = None;
    loop {
        sleep(SETTLE_EVERY).await;
        let Some(api) = api.upgrade() else { return };
        let hub = &api.live.hub;
        let cache = api.loader.cache.as_deref();
        let now = cache.map(MemoryCache::epoch);
        let forgot = std::mem::replace(&mut epoch, now) != now;
        if forgot || cache.is_none_or(|cache| !cache.ready()) {
            hub.unsettle_all();
        }
        let mut asked = hub.unsettled(SETTLE_MAX);
        asked.retain(|id| !is_settled(&api, id));
        for ids in asked.chunks(SUBJECTS_MAX) {
            let texts: Vec<&str> = ids.iter().map(|id| &**id).collect();
            if let Err(problem) = publish_subjects(&api, &texts).await {
                tracing::debug!("live counters are not read: {problem}");
            }
            hub.unsettle(ids.iter().filter(|id| !is_settled(&api, id)).cloned());
        }
    }
}

/// Whether the cache has all of a subject that is watched, or knows that there is nothing. Then every change from there on
/// is told.
fn is_settled(api: &Api, id: &Arc<str>) -> bool {
    let nothing = || api.loader.absent(id).filter(|_| api.loader.remembers_subjects());
    let Some(answer) = api.loader.cached(id).or_else(nothing) else { return false };
    publish(api, id.clone(), answer.counters, Freshness::new(clock_ms(&answer.roots).unwrap_or(0)));
    true
}

/// Looks after the boards that somebody reads.
async fn follow_boards(api: Weak<Api>) {
    let subscribe = |api: Arc<Api>| api.boards.as_ref().map(|cache| cache.subscribe());
    let mut progress = api.upgrade().and_then(subscribe);
    let mut due = interval(BOARD_AGE_MAX);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_alive = tokio::select! {
            _ = due.tick() => true,
            has_moved = moved(&mut progress) => has_moved,
        };
        let Some(api) = api.upgrade().filter(|_| is_alive) else { return };
        for (board, version) in api.live.hub.boards() {
            if let Err(problem) = publish_board(&api, &board, version).await {
                tracing::debug!("the live board `{board}` is not read: {problem}");
            }
        }
        drop(api);
        sleep(BOARD_ROUND).await;
    }
}
