//! The tasks behind the streams.

use super::Live;
use super::hub::HEARTBEAT_SECONDS;
use crate::reads::freshness::Freshness;
use crate::reads::memory::MemoryStore;
use crate::reads::roots::clock_ms;
use crate::reads::store::Answer;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The shortest time between two events of a subject.
pub const ROUND: Duration = Duration::from_millis(100);
/// The shortest time between two events of a board.
const BOARD_ROUND: Duration = Duration::from_millis(250);
/// How often a board is read if no cache reports its changes.
const BOARD_AGE_MAX: Duration = Duration::from_secs(1);
/// How often subjects are read whose changes no cache reports.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
const SETTLE_MAX: usize = 1_000;
/// Subjects that are read at once.
const REQUEST_SUBJECTS: usize = 100;

/// Starts the tasks. Call it within a tokio runtime.
pub fn start(live: &Arc<Live>) {
    let (hub, stopping) = (live.hub.clone(), live.config.stopping.clone());
    let tasks = (fan_out(Arc::downgrade(live)), settle(Arc::downgrade(live)), follow_boards(Arc::downgrade(live)));
    tokio::spawn(async move {
        stopping.run_until_cancelled(tasks.0).await;
        hub.close();
    });
    let stopping = live.config.stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(tasks.1).await });
    let stopping = live.config.stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(tasks.2).await });
}

/// Waits until a cache moves; false if the cache was dropped. Without a cache it waits forever.
async fn moved(progress: &mut Option<watch::Receiver<u64>>) -> bool {
    match progress {
        Some(progress) => progress.changed().await.is_ok(),
        None => pending().await,
    }
}

/// The task that publishes counters to all readers.
async fn fan_out(live: Weak<Live>) {
    let subscribe = |live: Arc<Live>| live.reads.totals.memory().map(|memory| memory.cache.subscribe());
    let mut progress = live.upgrade().and_then(subscribe);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = 0;
    loop {
        let has_moved = tokio::select! {
            _ = seconds.tick() => None,
            has_moved = moved(&mut progress) => Some(has_moved),
        };
        let Some(live) = live.upgrade().filter(|_| has_moved != Some(false)) else { return };
        if has_moved.is_none() {
            second += 1;
            look_after(&live, second);
            continue;
        }
        publish_changes(&live);
        drop(live);
        sleep(ROUND).await;
    }
}

/// Publishes what has changed to all readers.
fn publish_changes(live: &Live) {
    let totals = &live.reads.totals;
    let Some(MemoryStore { cache, .. }) = totals.memory() else { return };
    // The clocks before the changes: they are at least as new.
    let clocks: Vec<_> = totals.partitions().iter().map(|p| clock_ms(&cache.roots(p)).unwrap_or(0)).collect();
    for (id, counters) in cache.changes() {
        let clock_ms = clocks.get(totals.key(&id).partition.partition as usize).copied().unwrap_or(0);
        live.publish(id, counters, Freshness::new(clock_ms));
    }
}

/// Sends heartbeats, and removes channels without a stream.
fn look_after(live: &Live, second: u64) {
    live.hub.beat(second);
    if second.is_multiple_of(HEARTBEAT_SECONDS) {
        live.hub.sweep(|watched| {
            if let (Some(id), Some(memory)) = (watched.subject(), live.reads.totals.memory()) {
                memory.cache.unwatch(id);
            }
        });
    }
}

/// Reads the subjects of which the cache does not report every change.
async fn settle(live: Weak<Live>) {
    let mut epoch = None;
    loop {
        sleep(SETTLE_EVERY).await;
        let Some(live) = live.upgrade() else { return };
        let hub = &live.hub;
        let cache = live.reads.totals.memory().map(|memory| &memory.cache);
        let now = cache.map(|cache| cache.epoch());
        let forgot = std::mem::replace(&mut epoch, now) != now;
        if forgot || cache.is_none_or(|cache| !cache.ready()) {
            hub.unsettle_all();
        }
        let asked = unsettled(&live, hub.unsettled(SETTLE_MAX)).await;
        for ids in asked.chunks(REQUEST_SUBJECTS) {
            let texts: Vec<&str> = ids.iter().map(|id| &**id).collect();
            if let Err(error) = live.publish_subjects(&texts).await {
                tracing::debug!("live counters are not read: {error}");
            }
            // Determined before the call, since the hub has one lock.
            let left = unsettled(&live, ids.to_vec()).await;
            hub.unsettle(left);
        }
    }
}

/// Those of these subjects that are not settled.
async fn unsettled(live: &Live, ids: Vec<Arc<str>>) -> Vec<Arc<str>> {
    let mut left = Vec::new();
    for id in ids {
        if !is_settled(live, &id).await {
            left.push(id);
        }
    }
    left
}

/// Whether the cache has all records of a watched subject, or knows that none exists. Then every later change is
/// published.
async fn is_settled(live: &Live, id: &Arc<str>) -> bool {
    let totals = &live.reads.totals;
    let key = totals.key(id);
    let cached = totals.read_memory(&[key]).await.pop().flatten();
    let Some(Answer { stored, .. }) = cached.or_else(|| totals.absent(key)) else { return false };
    live.publish(id.clone(), stored.value, Freshness::new(clock_ms(&stored.roots).unwrap_or(0)));
    true
}

/// Reads the boards that streams are about.
async fn follow_boards(live: Weak<Live>) {
    let subscribe = |live: Arc<Live>| {
        let memory = live.reads.boards.as_ref()?.ladder.memory()?;
        Some(memory.cache.subscribe())
    };
    let mut progress = live.upgrade().and_then(subscribe);
    let mut due = interval(BOARD_AGE_MAX);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_alive = tokio::select! {
            _ = due.tick() => true,
            has_moved = moved(&mut progress) => has_moved,
        };
        let Some(live) = live.upgrade().filter(|_| is_alive) else { return };
        for (board, version) in live.hub.boards() {
            if let Err(error) = live.publish_board(&board, version).await {
                tracing::debug!("the live board `{board}` is not read: {error}");
            }
        }
        drop(live);
        sleep(BOARD_ROUND).await;
    }
}
