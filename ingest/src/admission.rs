//! How much may be under way: beyond it a request is turned away at once rather than kept waiting.

use prometheus::IntGauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tally_http::ApiProblem;

/// The room of a door, in requests and in bytes of bodies.
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    requests_max: usize,
    bytes_max: usize,
    gauge: IntGauge,
}

impl Admission {
    pub(crate) fn new(requests_max: usize, bytes_max: usize, gauge: IntGauge) -> Self {
        Self { requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0), requests_max, bytes_max, gauge }
    }

    /// A place for a request whose body is still to come. It takes room as bytes arrive, and counts as a request
    /// only when it is complete: slow senders cannot keep others out.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Place, ApiProblem> {
        match self.requests.load(Ordering::Relaxed) < self.requests_max {
            true => Ok(Place { admission: self.clone(), bytes: 0, complete: false }),
            false => Err(full()),
        }
    }
}

fn full() -> ApiProblem {
    ApiProblem::too_many_requests("Too many events are under way. Nothing of this request was taken.", 1)
}

/// Room that a request takes until this is dropped: when the log has answered, whether or not the client still waits.
pub(crate) struct Place {
    admission: Arc<Admission>,
    bytes: usize,
    complete: bool,
}

impl Place {
    /// Room for bytes that have arrived.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiProblem> {
        self.bytes += bytes;
        let before = self.admission.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.admission.bytes_max { Ok(()) } else { Err(full()) }
    }

    /// The body is there.
    pub(crate) fn complete(&mut self) -> Result<(), ApiProblem> {
        self.complete = true;
        self.admission.gauge.inc();
        let before = self.admission.requests.fetch_add(1, Ordering::Relaxed);
        if before < self.admission.requests_max { Ok(()) } else { Err(full()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.complete {
            self.admission.requests.fetch_sub(1, Ordering::Relaxed);
            self.admission.gauge.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(1, 100, IntGauge::new("in_flight", "as it says").unwrap()))
    }

    #[test]
    fn bytes_are_returned_even_those_that_were_one_too_many() {
        let admission = admission();
        let (mut first, mut second) = (admission.open().unwrap(), admission.open().unwrap());
        first.grow(60).unwrap();
        assert_eq!(second.grow(41).unwrap_err().status(), 429);
        drop(second);
        first.grow(40).unwrap();
        drop(first);
        assert_eq!(admission.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_complete_requests_take_a_place() {
        let admission = admission();
        let (mut first, mut second) = (admission.open().unwrap(), admission.open().unwrap());
        first.complete().unwrap();
        assert_eq!(admission.gauge.get(), 1);
        assert_eq!(second.complete().unwrap_err().status(), 429);
        drop(second);
        assert!(admission.open().is_err());
        drop(first);
        assert_eq!(admission.gauge.get(), 0);
        assert!(admission.open().unwrap().complete().is_ok());
    }
}
