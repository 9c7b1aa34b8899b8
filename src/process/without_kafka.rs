//! A build without Kafka. No address of a cluster can be made, so nothing else here ever runs.

use crate::commands::{Failure, SiteArgs};
use prometheus::Registry;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tally_model::MissingFeature;
use tally_streams::log::{Log, TopicSpec};

/// The brokers of a cluster: none.
#[derive(Clone, Debug, PartialEq)]
pub struct Brokers(Infallible);

impl Brokers {
    /// Refuses every address.
    pub fn parse(_: &str) -> Result<Self, Failure> {
        Err(Failure::usage(format!("--log kafka:…: {}", MissingFeature::KAFKA)))
    }
}

/// Connects to a cluster.
pub fn open(_: &str, _: Option<&Path>, brokers: &Brokers) -> Result<Arc<dyn Log>, Failure> {
    match brokers.0 {}
}

/// Checks for hanging transactions.
pub struct StandingWatch(Infallible);

impl StandingWatch {
    /// Watches every partition of these topics.
    pub fn start(
        _: &SiteArgs,
        brokers: &Brokers,
        _: Arc<dyn Log>,
        _: &[TopicSpec],
        _: &Registry,
    ) -> Result<Self, Failure> {
        match brokers.0 {}
    }
}
