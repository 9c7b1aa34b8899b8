//! Stream threads on real threads, in real time.

use super::{Site, now_ms};
use crate::commands::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tally_processors::Actions;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread, boot_id};
use tally_streams::task::{TaskError, TaskSite};
use tokio_util::sync::CancellationToken;

/// How long a poll may wait for records; also how long a stop may go unnoticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a thread rests that is waiting out a failure.
const PAUSE: Duration = Duration::from_millis(5);

/// The running threads.
pub struct StreamSide {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<(), TaskError>>>,
}

/// Starts `count` threads. One that cannot go on cancels `failed`.
pub fn stream_threads(site: &Site, count: usize, failed: &CancellationToken) -> Result<StreamSide, Failure> {
    let metrics = StreamMetrics::new(&site.registry).map_err(Failure::no)?;
    let mut members = Vec::new();
    let owner = |index: usize| Arc::<str>::from(format!("{}-{index}", site.topology.settings.application));
    let siblings: Arc<[Arc<str>]> = (0..count).map(owner).collect();
    // All join before the first one polls, so that each begins with its share.
    for index in 0..count {
        let task_site = TaskSite {
            topology: site.topology.clone(),
            generation: site.control.generation,
            hash_seed: site.control.hash_seed(),
            owner: siblings[index].clone(),
            siblings: siblings.clone(),
            state_dir: Some(site.state.path().to_owned()),
            boot_id: boot_id(),
        };
        let member = StreamThread::new(site.log.clone(), task_site, Limits::default(), metrics.clone());
        members.push(member.map_err(Failure::no)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let (stop, failed) = (stop.clone(), failed.clone());
        let builder = std::thread::Builder::new().name(format!("stream-{index}"));
        let thread = builder.spawn(move || {
            let outcome = drive(member, &stop);
            if let Err(error) = &outcome {
                tracing::error!(%error, "a stream thread cannot go on");
                failed.cancel();
            }
            outcome
        });
        threads.push(thread.map_err(Failure::no)?);
    }
    Ok(StreamSide { stop, threads })
}

fn drive(mut thread: StreamThread<Actions>, stop: &AtomicBool) -> Result<(), TaskError> {
    let mut leaving = false;
    loop {
        if stop.load(Ordering::Relaxed) && !leaving {
            leaving = true;
            thread.leave()?;
        }
        match thread.poll_once(now_ms(), POLL)? {
            Polling::Left => return Ok(()),
            Polling::Paused => std::thread::sleep(PAUSE),
            Polling::Idle | Polling::Worked => {}
        }
    }
}

impl StreamSide {
    /// Commits what is in flight and leaves the group.
    pub fn stop(self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome = Err(Failure::no(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome
    }
}
