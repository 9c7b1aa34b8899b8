//! A build without Redis. No address of one can be made, so nothing else here ever runs.

use std::convert::Infallible;
use std::fmt;
use tally_model::MissingFeature;

/// One Redis, or a Redis Cluster: none.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisAddress(Infallible);

/// Why an address cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{shown}: {cause}")]
pub struct AddressError {
    /// The address without its password.
    pub shown: String,
    /// What is wrong and what to do.
    pub cause: String,
}

/// Redis does not do what it should.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedisFailure {}

impl RedisAddress {
    /// Refuses every address.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let scheme = url.split(':').next().unwrap_or_default();
        Err(AddressError { shown: format!("{scheme}://…"), cause: MissingFeature::REDIS.to_string() })
    }

    /// There is no address: whatever would follow.
    pub fn absurd<T>(&self) -> T {
        match self.0 {}
    }

    /// The same Redis, which messages show as this text.
    pub fn shown_as(self, _: &str) -> Self {
        self
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.absurd()
    }
}

/// Connects once.
pub fn reach(address: &RedisAddress) -> Result<(), String> {
    address.absurd()
}
