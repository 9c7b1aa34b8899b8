//! A build without Redis. No address of one can be made, and so no store.

use super::store::{Board, Contained, Key, ReadStore, StoreError, Stored, Totals};
use super::totals::Template;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tally_cache::redis::RedisAddress;
use tally_model::Receipt;
use tally_streams::log::TopicPartition;

/// Redis, for reading: none.
pub struct RedisStore(Infallible);

impl RedisStore {
    /// A handle.
    pub fn new(address: RedisAddress, _: Arc<Template>) -> Self {
        address.absurd()
    }
}

impl ReadStore for RedisStore {
    async fn progress(&self, _: &[&TopicPartition]) -> Result<Vec<Option<Contained>>, StoreError> {
        match self.0 {}
    }

    async fn totals(&self, _: &[Key<'_>]) -> Result<Vec<Option<Stored<Totals>>>, StoreError> {
        match self.0 {}
    }

    async fn board(&self, _: Key<'_>) -> Result<Option<Stored<Board>>, StoreError> {
        match self.0 {}
    }

    async fn wait(&self, _: &[&TopicPartition], _: &Receipt, _: Instant) -> bool {
        match self.0 {}
    }
}
