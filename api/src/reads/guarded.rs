//! A store behind its circuit breaker.

use super::breaker::Breaker;
use super::readable::Readable;
use super::store::{Key, ReadStore, Stored};
use prometheus::IntGauge;
use std::time::Instant;

/// A store outside of this process. After some failures it gets no requests for a while.
pub struct Guarded<S> {
    /// The store.
    pub store: S,
    breaker: Breaker,
}

impl<S: ReadStore> Guarded<S> {
    /// With a closed breaker, whose state the gauge shows.
    pub fn new(store: S, state: IntGauge) -> Self {
        Self { store, breaker: Breaker::new(state) }
    }

    /// The values of the store, in the order of the keys; None if it does not answer, or the breaker is open.
    pub async fn read<T: Readable>(&self, keys: &[Key<'_>]) -> Option<Vec<Option<Stored<T>>>> {
        let permit = self.breaker.permit(Instant::now())?;
        match T::read(&self.store, keys).await {
            Ok(read) => {
                permit.succeed();
                Some(read)
            }
            Err(error) => {
                tracing::warn!("{error}");
                permit.fail(Instant::now());
                None
            }
        }
    }
}
