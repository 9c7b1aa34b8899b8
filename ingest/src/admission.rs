//! How much may be under way: beyond it a request is turned away at once rather than kept waiting.

use crate::metrics::IngestMetrics;
use crate::refusal::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The room of a service, in requests and in bytes of bodies.
pub(crate) struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    requests_max: usize,
    bytes_max: usize,
    metrics: IngestMetrics,
}

impl Admission {
    pub(crate) fn new(requests_max: usize, bytes_max: usize, metrics: IngestMetrics) -> Self {
        Self { requests: AtomicUsize::new(0), bytes: AtomicUsize::new(0), requests_max, bytes_max, metrics }
    }

    /// A place for a request whose body is still to come. It takes room as bytes arrive, and counts as a request
    /// only when it is complete: slow senders cannot keep others out.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Place, Refusal> {
        match self.requests.load(Ordering::Relaxed) < self.requests_max {
            true => Ok(Place { admission: self.clone(), bytes: 0, complete: false }),
            false => Err(self.full()),
        }
    }

    fn full(&self) -> Refusal {
        self.metrics.unavailable.with_label_values(&["overloaded"]).inc();
        Refusal::Overloaded
    }
}

/// Room that a request takes until this is dropped: when the log has answered, whether or not the client still waits.
pub struct Place {
    admission: Arc<Admission>,
    bytes: usize,
    complete: bool,
}

impl Place {
    /// Room for bytes that have arrived.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let before = self.admission.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.admission.bytes_max { Ok(()) } else { Err(self.admission.full()) }
    }

    /// The bytes that have arrived.
    #[cfg(feature = "grpc")]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Marks the body as complete.
    pub(crate) fn complete(&mut self) -> Result<(), Refusal> {
        self.complete = true;
        self.admission.metrics.in_flight.inc();
        let before = self.admission.requests.fetch_add(1, Ordering::Relaxed);
        if before < self.admission.requests_max { Ok(()) } else { Err(self.admission.full()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.complete {
            self.admission.requests.fetch_sub(1, Ordering::Relaxed);
            self.admission.metrics.in_flight.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(1, 100, IngestMetrics::new(&Registry::new()).unwrap()))
    }

    #[test]
    fn bytes_are_returned_even_those_that_were_one_too_many() {
        let admission = admission();
        let (mut first, mut second) = (admission.open().unwrap(), admission.open().unwrap());
        first.grow(60).unwrap();
        assert_eq!(second.grow(41).err(), Some(Refusal::Overloaded));
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
        assert_eq!(admission.metrics.in_flight.get(), 1);
        assert_eq!(second.complete().err(), Some(Refusal::Overloaded));
        drop(second);
        assert!(admission.open().is_err());
        drop(first);
        assert_eq!(admission.metrics.in_flight.get(), 0);
        assert!(admission.open().unwrap().complete().is_ok());
    }
}
