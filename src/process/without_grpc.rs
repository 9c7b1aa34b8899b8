//! A build without gRPC serves nothing over it.

use crate::commands::Failure;
use std::sync::Arc;
use tally_access::Routes;
use tally_api::{Api, Collects};
use tally_http::{Check, TrustedProxies};
use tally_ingest::IngestService;
use tokio_util::sync::CancellationToken;

/// No methods.
#[derive(Default)]
pub struct Methods {}

impl Methods {
    /// Adds nothing.
    pub fn events(&mut self, _: IngestService, _: TrustedProxies, _: &CancellationToken) {}

    /// Adds nothing.
    pub fn reads(&mut self, _: &Arc<Api>) {}

    /// Adds nothing.
    pub fn collects(&mut self, _: Arc<Collects>) {}

    /// No routes.
    pub fn into_routes(self, _: &[Check], _: &CancellationToken) -> Result<Routes, Failure> {
        Ok(Routes::default())
    }
}
