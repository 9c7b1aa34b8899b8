//! A sink on a thread of its own, with real time.

use crate::failure::SinkError;
use crate::runner::{SinkTask, Step};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a poll waits for records; also how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);

/// A running sink.
pub struct SinkThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), SinkError>>,
}

impl SinkThread {
    /// Runs a sink until it is stopped or cannot go on.
    pub fn spawn(task: SinkTask) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let name = format!("sink-{}", task.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || run(task, &seen))?;
        Ok(Self { stop, thread })
    }

    /// Whether it has ended: before a stop that means that it cannot go on.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks it to write what it has read and end; does not wait.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end. A panic in it goes on here.
    pub fn join(self) -> Result<(), SinkError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn run(mut task: SinkTask, stop: &AtomicBool) -> Result<(), SinkError> {
    let random = RandomState::new();
    let mut steps = 0u64;
    while !stop.load(Ordering::Relaxed) {
        steps += 1;
        let jitter = random.hash_one(steps) as f64 / u64::MAX as f64;
        let step = task.poll_once(now_ms(), jitter, POLL);
        match step.inspect_err(|error| tracing::error!("{error}"))? {
            Step::Waiting(wait_ms) => std::thread::sleep(POLL.min(Duration::from_millis(wait_ms.max(1) as u64))),
            Step::Read(_) | Step::Wrote(_) | Step::Idle => {}
        }
    }
    task.finish(now_ms());
    Ok(())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
