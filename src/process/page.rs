//! A plain page with live counters, for when the one in `web/` is not built.

use super::Site;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{any, get};
use tally_access::{Access, Routes, Scope};
use tally_http::{ApiProblem, OwnPath};
use tally_model::check_subject_id;
use tally_processors::metrics;

/// The routes of the built page besides `/`: it parses the path itself. An invalid id is not a subject.
pub const OWN_PATHS: &[OwnPath] = &[("/subjects/{subject_id}", is_subject)];

fn is_subject(subject_id: &str) -> bool {
    check_subject_id(subject_id).is_ok()
}

/// The response of a process without an ingest API to events: where to send them. Pages show it.
pub fn no_ingest(ingest_url: Option<&str>) -> Routes {
    let to =
        ingest_url.map_or("a process that runs `tally ingest`".to_owned(), |url| format!("the ingest API at {url}"));
    let detail = format!("This process runs `tally api` and accepts no events: send them to {to}.");
    let answer = move || {
        let problem = ApiProblem::new(StatusCode::NOT_FOUND, "no-ingest", "No ingest API", detail.clone());
        async move { problem }
    };
    let router = Router::new().route("/v1/events", any(answer.clone())).route("/v1/read-tokens", any(answer));
    Routes::new(Access::Needs(Scope::Write), router)
}

/// `GET /`.
pub fn page(site: &Site) -> Router {
    let names: Vec<_> = metrics(&site.topology).into_iter().map(|metric| metric.name).collect();
    let columns = serde_json::to_string(&names).unwrap_or_else(|_| "[]".to_owned());
    let html = include_str!("page.html").replace("\"COLUMNS\"", &columns);
    Router::new().route("/", get(move || async move { Html(html) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_process_without_an_ingest_api_says_where_events_go() {
        for (url, expected) in [
            (None, "send them to a process that runs `tally ingest`."),
            (Some("https://in.example"), "send them to the ingest API at https://in.example."),
        ] {
            for (method, path) in [("POST", "/v1/events"), ("GET", "/v1/events"), ("POST", "/v1/read-tokens")] {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                let response = no_ingest(url).into_router(None).oneshot(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::NOT_FOUND, "{method} {path}");
                let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
                let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(problem["type"], "urn:tally:problem:no-ingest");
                assert!(problem["detail"].as_str().unwrap().ends_with(expected), "{problem}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_no_subject() {
        for (id, can_be) in
            [("article:7", true), ("用户", false), ("video:用户", true), ("article", false), ("a:", false)]
        {
            assert_eq!(is_subject(id), can_be, "{id}");
        }
    }
}
