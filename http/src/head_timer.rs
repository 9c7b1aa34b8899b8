//! How long the heads of a connection's requests may take.

use hyper::rt::{Sleep, Timer};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The timer of one connection, for hyper's limit on the time that a head takes.
///
/// hyper makes a sleep for each head and drops it when the head is there. A sleep of the runtime enters and leaves the
/// runtime's timers each time, under their lock. Here one sleep of the runtime serves all heads: it stays armed for an
/// earlier head, and is armed again only when it fires before the present head's deadline.
pub(crate) struct HeadTimer(Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>);

impl HeadTimer {
    /// A timer that is first armed for `timeout` from now: the longest time that a head may take.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(timeout)))))
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep { deadline: deadline.into(), armed: self.0.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// Ends at the deadline of one head.
struct HeadSleep {
    deadline: tokio::time::Instant,
    armed: Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>,
}

impl Sleep for HeadSleep {}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.deadline() > self.deadline {
            armed.as_mut().reset(self.deadline);
        }
        while armed.as_mut().poll(context).is_ready() {
            if armed.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            // It was armed for an earlier head.
            armed.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::timeout;

    const FAR: Duration = Duration::from_secs(3_600);
    const NEAR: Duration = Duration::from_millis(5);
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn is_over(sleep: &mut Pin<Box<dyn Sleep>>) -> bool {
        poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn a_sleep_does_not_end_with_one_that_was_armed_before() {
        let timer = HeadTimer::new(Duration::ZERO);
        tokio::time::sleep(NEAR).await;
        let mut first = timer.sleep(FAR);
        assert!(!is_over(&mut first).await, "the timer fired, and is armed again");
        drop(first);
        timeout(PATIENCE, timer.sleep(Duration::ZERO)).await.unwrap();
        assert!(!is_over(&mut timer.sleep(FAR)).await);
    }

    #[tokio::test]
    async fn a_sleep_wakes_its_task_whatever_was_armed_before() {
        for armed in [Duration::ZERO, NEAR, FAR] {
            let timer = HeadTimer::new(armed);
            for _ in 0..3 {
                timeout(PATIENCE, timer.sleep(NEAR)).await.unwrap();
                assert!(timeout(2 * NEAR, timer.sleep(FAR)).await.is_err());
            }
        }
    }
}
