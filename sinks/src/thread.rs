//! A sink on a thread of its own, with real time.

use crate::failure::SinkError;
use crate::runner::{SinkTask, Step};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tally_streams::log::Now;

/// How long a poll waits for records; also how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a sink waits that the process can do without, after a record that it cannot read.
const RETRY: Duration = Duration::from_millis(500);
/// How long a sink waits at most before its first step, and between two looks at what it waits for.
const BEGIN_MAX: Duration = Duration::from_secs(2);
const BEGIN_STEP: Duration = Duration::from_millis(5);

/// A running sink.
pub struct SinkThread {
    stop: Arc<AtomicBool>,
    state: SinkState,
    thread: JoinHandle<Result<(), SinkError>>,
}

/// What a sink calls after each failure that the process can do without.
type OnFailure = Box<dyn FnMut() + Send>;

/// What the sinks of a process leave the processor to at its start: they take their first step when it is done, or after
/// two seconds. Clones share it.
#[derive(Clone, Debug)]
pub struct HeadStart(Arc<AtomicBool>);

impl HeadStart {
    /// Nothing goes first.
    pub fn none() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Something goes first, until it calls [`HeadStart::end`].
    pub fn running() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// The sinks begin.
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a sink is. Clones see the same.
#[derive(Clone)]
pub struct SinkState {
    sink: Arc<str>,
    now: Arc<AtomicU8>,
}

const WORKING: u8 = 0;
const WAITING: u8 = 1;
const ENDED: u8 = 2;

impl SinkState {
    /// The sink's name.
    pub fn sink(&self) -> &str {
        &self.sink
    }

    /// Why nothing is written; None where all is well.
    pub fn trouble(&self) -> Option<&'static str> {
        match self.now.load(Ordering::Relaxed) {
            WORKING => None,
            WAITING => Some("waits after a failure of its target or of the log; the messages say which"),
            _ => Some("has ended"),
        }
    }

    fn set(&self, now: u8) {
        self.now.store(now, Ordering::Relaxed);
    }
}

impl SinkThread {
    /// Runs a sink, once the head start has ended, until it is stopped or cannot go on.
    pub fn spawn(task: SinkTask, head_start: HeadStart) -> std::io::Result<Self> {
        Self::start(task, head_start, None)
    }

    /// The same for a sink that the process can do without. After each failure it calls `failed` and tries again, also
    /// where another sink could not go on.
    pub fn spawn_optional(
        task: SinkTask,
        head_start: HeadStart,
        failed: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start(task, head_start, Some(Box::new(failed)))
    }

    fn start(task: SinkTask, head_start: HeadStart, failed: Option<OnFailure>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let state = SinkState { sink: task.name().into(), now: Arc::new(AtomicU8::new(WORKING)) };
        let (seen, shown) = (stop.clone(), state.clone());
        let name = format!("sink-{}", task.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            wait_for(&head_start, &seen);
            let outcome = run(task, failed, &seen, &shown);
            shown.set(ENDED);
            outcome
        })?;
        Ok(Self { stop, state, thread })
    }

    /// How it is; the state stays readable after its end.
    pub fn state(&self) -> SinkState {
        self.state.clone()
    }

    /// Whether it has ended: before a stop that means that it cannot go on.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Requests the thread to write what it has read and end; does not wait.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end. A panic in it goes on here.
    pub fn join(self) -> Result<(), SinkError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn wait_for(head_start: &HeadStart, stop: &AtomicBool) {
    let begun = Instant::now();
    while !head_start.has_ended() && !stop.load(Ordering::Relaxed) && begun.elapsed() < BEGIN_MAX {
        std::thread::sleep(BEGIN_STEP);
    }
}

fn run(
    mut task: SinkTask,
    mut failed: Option<OnFailure>,
    stop: &AtomicBool,
    state: &SinkState,
) -> Result<(), SinkError> {
    let random = RandomState::new();
    let mut steps = 0u64;
    while !stop.load(Ordering::Relaxed) {
        steps += 1;
        let jitter = random.hash_one(steps) as f64 / u64::MAX as f64;
        let wait = match task.poll_once(Now::of_system(), jitter, POLL) {
            Ok(Step::Waiting(wait_ms)) => POLL.min(Duration::from_millis(wait_ms.max(1) as u64)),
            Ok(Step::Read(_) | Step::Wrote(_) | Step::Idle) => {
                state.set(WORKING);
                continue;
            }
            Err(error) if failed.is_some() => {
                tracing::warn!("{error}");
                RETRY
            }
            Err(error) => {
                tracing::error!("{error}");
                return Err(error);
            }
        };
        state.set(WAITING);
        failed.iter_mut().for_each(|failed| failed());
        std::thread::sleep(wait);
    }
    task.finish(Now::of_system());
    Ok(())
}
