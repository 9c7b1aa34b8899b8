//! A plain page on which counters are seen to move, for where nobody has built the one in `web/`.

use super::Site;
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tally_processors::metrics;

/// What the built page answers to beside `/`: it reads the path itself.
pub const OWN_PATHS: &[&str] = &["/subjects/{subject_id}"];

/// `GET /`.
pub fn page(site: &Site) -> Router {
    let names: Vec<_> = metrics(&site.topology).into_iter().map(|metric| metric.name).collect();
    let columns = serde_json::to_string(&names).unwrap_or_else(|_| "[]".to_owned());
    let html = include_str!("page.html").replace("\"COLUMNS\"", &columns);
    Router::new().route("/", get(move || async move { Html(html) }))
}
