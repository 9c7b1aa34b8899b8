//! What a process serves over gRPC.

use crate::commands::Failure;
use std::sync::Arc;
use tally_access::{Access, Routes};
use tally_api::{Api, Collects};
use tally_http::{Check, TrustedProxies};
use tally_ingest::IngestService;
use tokio_util::sync::CancellationToken;

/// The methods of a process, and the services that have them.
#[derive(Default)]
pub struct Methods {
    routes: Routes,
    services: Vec<&'static str>,
}

impl Methods {
    /// Adds the ingest API. `stopping` ends its streams.
    pub fn events(&mut self, service: IngestService, trusted_proxies: TrustedProxies, stopping: &CancellationToken) {
        self.add(tally_ingest::grpc::router(service, trusted_proxies, stopping.clone()));
        self.services.push(tally_ingest::grpc::SERVICE);
    }

    /// Adds the reads of the API.
    pub fn reads(&mut self, api: &Arc<Api>) {
        self.add(tally_api::grpc::reads(api));
        self.services.extend(tally_api::grpc::SERVICES);
    }

    /// Adds the collects of the API.
    pub fn collects(&mut self, collects: Arc<Collects>) {
        self.add(tally_api::grpc::collects(collects));
        self.services.push(tally_api::grpc::COLLECTS);
    }

    /// All methods, with health and the description of every service.
    pub fn into_routes(mut self, checks: &[Check], stopping: &CancellationToken) -> Result<Routes, Failure> {
        self.services.extend(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
        let health = tally_http::grpc::health(checks.to_vec(), self.services.clone(), stopping.clone());
        let reflection = tally_http::grpc::reflection(self.services, stopping.clone()).map_err(Failure::no)?;
        Ok(self.routes.merge(Routes::new(Access::Open, health.merge(reflection))))
    }

    fn add(&mut self, routes: Routes) {
        self.routes = std::mem::take(&mut self.routes).merge(routes);
    }
}
