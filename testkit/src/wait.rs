//! Waiting for a condition. The limit is there for conditions that never come true; no test depends on how long one takes.

use std::time::{Duration, Instant};

/// No condition that a test waits for takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Repeats a call until it returns Some, and returns that value. Panics after [`PATIENCE`].
#[track_caller]
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a condition holds. Panics after [`PATIENCE`].
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    wait_until(what, || condition().then_some(()));
}

/// The same within an async runtime.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
