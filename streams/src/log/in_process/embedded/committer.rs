//! The committer: one thread that writes all waiting requests in one durable commit and starts the next as soon as that
//! has ended. There is no linger: requests that arrive during a sync form the next commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::log::LogError;
use crate::log::in_process::request::{Request, Submit};
use crate::log::in_process::writer::Writer;

/// The thread. Dropping it waits until all requests are done.
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    pub fn start(writer: Writer, queue_bytes_max: usize) -> Result<Self, LogError> {
        let queue = Arc::new(Queue { state: Mutex::default(), more: Condvar::new(), bytes_max: queue_bytes_max });
        let theirs = queue.clone();
        let thread = thread::Builder::new().name("log-committer".into()).spawn(move || {
            // Even if the thread panics, no request waits forever.
            let _closed = CloseOnDrop(&theirs);
            run(writer, &theirs);
        });
        let thread = thread.map_err(|e| LogError::Fatal(format!("cannot start the log's committer: {e}")))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// The queue in front of the committer.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue.close();
        // A completion may hold the last handle: then this runs on the thread itself, which ends in any case.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // It only fails where the thread panicked, and that was reported there.
            let _ = thread.join();
        }
    }
}

fn run(mut writer: Writer, queue: &Queue) {
    let every = writer.upkeep.options.every;
    // Not at once: at its start a process restores its state.
    let mut sweep_at = Instant::now() + every;
    while let Some(requests) = queue.take(sweep_at) {
        if !requests.is_empty() {
            let admitted = requests.iter().map(Request::admitted_bytes).sum();
            let answers = writer.run(requests);
            queue.release(admitted);
            for answer in answers {
                // A completion that panics must not end the log. The panic hook has reported it.
                let _ = catch_unwind(AssertUnwindSafe(|| answer.deliver()));
            }
        }
        if sweep_at <= Instant::now() {
            // If more is left, the next slice follows the requests that wait now, and takes at most half of the time.
            let since = Instant::now();
            match writer.upkeep() {
                Ok(true) => sweep_at = Instant::now() + since.elapsed(),
                Ok(false) => sweep_at = Instant::now() + every,
                Err(error) => {
                    tracing::warn!(%error, "old records could not be removed or merged; trying again");
                    sweep_at = Instant::now() + every;
                }
            }
        }
    }
}

/// The requests that wait for the committer.
pub(super) struct Queue {
    state: Mutex<Waiting>,
    more: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    /// Admitted and not yet committed.
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// All waiting requests; none if `until` passes first; None once the log is closed and all requests are done.
    fn take(&self, until: Instant) -> Option<Vec<Request>> {
        let mut state = self.lock();
        while state.requests.is_empty() {
            if state.closed {
                return None;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(Vec::new());
            }
            state = self.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(std::mem::take(&mut state.requests))
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Submit for Queue {
    fn submit(&self, request: Request) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            request.refuse(LogError::Fatal("the log is closed".into()));
            return;
        }
        let was_empty = state.requests.is_empty();
        state.requests.push(request);
        drop(state);
        // The committer waits only while nothing is there, and takes everything. Waking it is a call into the system even
        // if it does not wait.
        if was_empty {
            self.more.notify_one();
        }
    }

    fn admit(&self, bytes: usize) -> Result<(), LogError> {
        let mut state = self.lock();
        // One that is larger than the whole queue passes when nothing else is there.
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(LogError::Busy);
        }
        state.bytes += bytes;
        Ok(())
    }

    fn release(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }
}

/// Closes the queue and drops what is in it: dropping a reply delivers an error.
struct CloseOnDrop<'a>(&'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        let left = std::mem::take(&mut self.0.lock().requests);
        drop(left);
    }
}
