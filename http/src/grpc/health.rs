//! `grpc.health.v1`, from the same checks as `/readyz`.

use super::message::read_message;
use super::reply::{reply, reply_stream};
use crate::probes::{Check, is_ready};
use crate::problem::ApiProblem;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use std::sync::Arc;
use std::time::Duration;
use tally_proto::grpc::health::health_check_response::ServingStatus;
use tally_proto::grpc::health::{HealthCheckRequest, HealthCheckResponse};
use tokio_util::sync::CancellationToken;

const REQUEST_BYTES_MAX: usize = 4 << 10;
/// How often `Watch` runs the checks.
const WATCH: Duration = Duration::from_secs(1);

struct Health {
    checks: Vec<Check>,
    services: Vec<&'static str>,
    stopping: CancellationToken,
}

/// `Check` and `Watch` of the process and of `services`, which are ready together. `stopping` ends `Watch`.
pub fn health(checks: Vec<Check>, services: Vec<&'static str>, stopping: CancellationToken) -> Router {
    Router::new()
        .route("/grpc.health.v1.Health/Check", post(check))
        .route("/grpc.health.v1.Health/Watch", post(watch))
        .with_state(Arc::new(Health { checks, services, stopping }))
}

impl Health {
    async fn status(&self) -> ServingStatus {
        match !self.stopping.is_cancelled() && is_ready(&self.checks).await.is_ok() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

async fn check(State(health): State<Arc<Health>>, request: Request) -> Result<Response, ApiProblem> {
    let (parts, body) = request.into_parts();
    let asked: HealthCheckRequest = read_message(&parts.headers, body, REQUEST_BYTES_MAX, |_| Ok(())).await?;
    if !health.knows(&asked.service) {
        return Err(ApiProblem::not_found(format!("This process has no service `{}`.", asked.service)));
    }
    Ok(reply(&answer(health.status().await)))
}

async fn watch(State(health): State<Arc<Health>>, request: Request) -> Result<Response, ApiProblem> {
    let (parts, body) = request.into_parts();
    let asked: HealthCheckRequest = read_message(&parts.headers, body, REQUEST_BYTES_MAX, |_| Ok(())).await?;
    Ok(reply_stream(&parts.extensions, async move |replies| {
        let mut last = None;
        loop {
            // The protocol wants a stream for services that may come up later.
            let status = match health.knows(&asked.service) {
                true => health.status().await,
                false => ServingStatus::ServiceUnknown,
            };
            if last != Some(status) && replies.send(&answer(status)).await.is_err() {
                return Ok(());
            }
            last = Some(status);
            if health.stopping.is_cancelled() {
                return Err(ApiProblem::shutting_down());
            }
            tokio::select! {
                () = replies.left() => return Ok(()),
                () = health.stopping.cancelled() => {}
                () = tokio::time::sleep(WATCH) => {}
            }
        }
    }))
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
