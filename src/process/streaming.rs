//! Stream threads on real threads, in real time.

use super::Site;
use crate::commands::{Failure, StreamArgs};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tally_http::Check;
use tally_processors::Actions;
use tally_sinks::HeadStart;
use tally_streams::log::WallClock;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread, boot_id};
use tally_streams::task::{StateMemory, TaskError, TaskSite};
use tokio_util::sync::CancellationToken;

/// How long a poll may wait for records; also how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a thread rests while it waits out a failure; also the interval of checks for a thread that is to end.
const PAUSE: Duration = Duration::from_millis(5);

/// The running threads.
pub struct StreamSide {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), TaskError>>>,
    /// By thread: one of the constants below.
    working: Arc<[AtomicU8]>,
}

/// It does not work on what the group assigned to it.
const IDLE: u8 = 0;
const WORKING: u8 = 1;
/// It takes in nothing: its state has all the memory that it may, and checkpoints cannot be written.
const HELD: u8 = 2;

/// Starts the stream threads of a process. `head_start` ends once all of them work. One that cannot go on cancels `failed`.
pub fn stream_threads(
    site: &Site,
    args: &StreamArgs,
    head_start: HeadStart,
    failed: &CancellationToken,
) -> Result<StreamSide, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let partitions = site.topology.subtopologies[0].partitions as usize;
    let count = args.threads.map_or(cores, usize::from).min(partitions);
    if let Some(threads) = args.threads.filter(|threads| usize::from(*threads) > partitions) {
        tracing::warn!(
            threads,
            partitions,
            "--threads: a thread needs a partition of `{}`, so only as many threads are started as it has partitions",
            site.topology.root
        );
    }
    let state = site.state.as_ref().ok_or_else(|| Failure::no("stream threads need a state directory"))?;
    let metrics = StreamMetrics::new(&site.registry).map_err(Failure::no)?;
    let memory = StateMemory::new(test_variable("TALLY_TEST_STATE_BYTES").unwrap_or((args.state_mib as usize) << 20));
    let mut members = Vec::new();
    // No other process has the same: that of a copied state directory fences this one.
    let owner = |index| format!("{}-{}-{index}", site.topology.settings.application, state.id()).into();
    let siblings: Arc<[Arc<str>]> = (0..count).map(owner).collect();
    // All join before the first one polls, so that each begins with its share.
    for index in 0..count {
        let task_site = TaskSite {
            topology: site.topology.clone(),
            generation: site.control.generation,
            wire_version: site.control.wire_version,
            hash_seed: site.control.hash_seed(),
            secret: site.control.secret,
            owner: siblings[index].clone(),
            siblings: siblings.clone(),
            confirmed_times: site.control.confirmed_times.clone().into(),
            state_dir: Some(state.path().to_owned()),
            boot_id: boot_id(),
            memory: memory.clone(),
        };
        let member = StreamThread::new(site.log.clone(), task_site, limits(), metrics.clone());
        members.push(member.map_err(Failure::no)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let working: Arc<[AtomicU8]> = (0..count).map(|_| AtomicU8::new(IDLE)).collect();
    let mut threads = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let (stop, failed, working, wall) = (stop.clone(), failed.clone(), working.clone(), site.wall.clone());
        let head_start = head_start.clone();
        let builder = std::thread::Builder::new().name(format!("stream-{index}"));
        let thread = builder.spawn(move || {
            let outcome = drive(member, &wall, &stop, |now| {
                let before = working[index].swap(now, Ordering::SeqCst);
                // Of two threads that change at once, one sees both.
                if now != before && working.iter().all(|working| working.load(Ordering::SeqCst) == WORKING) {
                    head_start.end();
                }
            });
            working[index].store(IDLE, Ordering::Relaxed);
            if let Err(error) = &outcome {
                tracing::error!(%error, "a stream thread cannot go on");
                failed.cancel();
            }
            outcome
        });
        threads.push(thread.map_err(Failure::no)?);
    }
    Ok(StreamSide { stop, threads, working })
}

/// Tests of the whole process have snapshots begin earlier and state evicted sooner, through variables that are no settings.
/// 0: all the time.
fn test_variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

fn limits() -> Limits {
    let limits = Limits::default();
    let tail_bytes = test_variable("TALLY_TEST_SNAPSHOT_TAIL_BYTES");
    Limits { snapshot_tail_bytes: tail_bytes.unwrap_or(limits.snapshot_tail_bytes), ..limits }
}

fn drive(
    mut thread: StreamThread<Actions>,
    wall: &WallClock,
    stop: &AtomicBool,
    mut is_now: impl FnMut(u8),
) -> Result<(), TaskError> {
    let mut leaving = false;
    loop {
        if stop.load(Ordering::Relaxed) && !leaving {
            leaving = true;
            thread.leave()?;
        }
        let polling = thread.poll_once(wall.read(), POLL)?;
        let is_working = if thread.is_working() { WORKING } else { IDLE };
        is_now(if thread.is_held() { HELD } else { is_working });
        match polling {
            Polling::Left => return Ok(()),
            Polling::Paused => std::thread::sleep(PAUSE),
            Polling::Idle | Polling::Worked => {}
        }
    }
}

impl StreamSide {
    /// Whether every thread works on what the group assigned to it.
    pub fn check(&self) -> Check {
        let working = self.working.clone();
        Check::at_once("the stream threads", move || {
            let count = |what| working.iter().filter(|working| working.load(Ordering::Relaxed) == what).count();
            match (count(IDLE), count(HELD)) {
                (0, 0) => Ok(()),
                (_, held @ 1..) => Err(format!(
                    "{held} of {} take in nothing: state in memory has reached --state-mib, and checkpoints cannot be \
                     written; make room on the disk of --state",
                    working.len()
                )),
                (idle, 0) => Err(format!(
                    "{idle} of {} wait for their partitions, restore them, wait for records whose time lies ahead, or have ended",
                    working.len()
                )),
            }
        })
    }

    /// Commits work in progress and leaves the group. A thread that has not ended by the deadline waits for the log:
    /// its uncommitted work is repeated by its successor.
    pub fn stop(self, deadline: Instant) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
            }
            if !thread.is_finished() {
                let name = thread.thread().name().unwrap_or_default().to_owned();
                tracing::warn!(thread = name, "does not end in time and is left alone");
                continue;
            }
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome = Err(Failure::no(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome
    }
}
