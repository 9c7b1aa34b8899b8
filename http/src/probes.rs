//! `GET /livez` and `GET /readyz`.

use crate::problem::ApiProblem;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::pin::Pin;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Something that has to be well before requests should come. Cheap to clone.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    ask: Arc<dyn Fn() -> Asked + Send + Sync>,
}

type Asked = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Check {
    /// A check of the part `name`: `ask` must return quickly, with a reason for people if the part is not ready.
    pub fn new<F>(name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, ask: Arc::new(move || Box::pin(ask())) }
    }

    /// A check that answers without waiting.
    pub fn at_once(name: &'static str, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self::new(name, move || std::future::ready(ask()))
    }
}

/// `GET /livez` and `GET /readyz`, described for `/openapi.json`. Ready is who passes all checks.
pub fn probes(checks: Vec<Check>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).with_state(checks.into())
}

/// The check passes.
#[derive(Serialize, ToSchema)]
struct Well {
    /// `ok`.
    status: &'static str,
}

/// Whether the process runs.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "The process runs", body = Well)))]
async fn livez() -> Json<Well> {
    Json(Well { status: "ok" })
}

/// Whether the process is ready: every check passes.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "Every check passed", body = Well),
        (status = 503, description = "A check failed; `detail` names it", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
async fn readyz(State(checks): State<Arc<[Check]>>) -> Result<Json<Well>, ApiProblem> {
    is_ready(&checks).await.map(|()| Json(Well { status: "ok" }))
}

/// Whether all checks pass; 503 names those that fail.
pub(crate) async fn is_ready(checks: &[Check]) -> Result<(), ApiProblem> {
    let mut causes = Vec::new();
    for check in checks {
        if let Err(cause) = (check.ask)().await {
            causes.push(format!("{}: {cause}.", check.name));
        }
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(ApiProblem::unavailable(causes.join(" "), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt;

    #[tokio::test]
    async fn ready_is_who_passes_all_checks_and_every_cause_is_told() {
        let ill = Arc::new(AtomicBool::new(true));
        let seen = ill.clone();
        let ask = move || if seen.load(Ordering::Relaxed) { Err("is away".to_owned()) } else { Ok(()) };
        let checks =
            vec![Check::at_once("a", || Ok(())), Check::at_once("b", ask), Check::at_once("c", || Err("x".into()))];
        let of = |checks: Vec<Check>, path: &'static str| async move {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = axum::Router::from(probes(checks)).oneshot(request).await.unwrap();
            let status = response.status();
            (status, String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
        };
        let (status, body) = of(checks.clone(), "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("b: is away. c: x."), "{body}");
        assert_eq!(of(checks.clone(), "/livez").await.0, StatusCode::OK);
        ill.store(false, Ordering::Relaxed);
        assert_eq!(of(checks[..2].to_vec(), "/readyz").await, (StatusCode::OK, r#"{"status":"ok"}"#.to_owned()));
    }
}
