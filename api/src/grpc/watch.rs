//! Streams of `tally.v1.Counters` and `tally.v1.Rankings`: the live streams of the JSON API.

use super::answer::{Route, data, message, read};
use super::parameters::Parameters;
use crate::routes::Reader;
use crate::routes::live::live;
use crate::state::Api;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_http::grpc::reply_stream;
use tally_proto::Message;
use tally_proto::tally::v1::{WatchCountersRequest, WatchCountersResponse, WatchRankingRequest, WatchRankingResponse};

/// `WatchCounters`.
pub async fn watch_counters(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (parts, WatchCountersRequest { subject_ids }) = read(request).await?;
    watch::<WatchCountersResponse>(api, (&parts, reader), Parameters::default().with_each("subject_id", subject_ids))
        .await
}

/// `WatchRanking`.
pub async fn watch_ranking(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (parts, WatchRankingRequest { board }) = read(request).await?;
    watch::<WatchRankingResponse>(api, (&parts, reader), Parameters::default().with("board", board)).await
}

/// One message per event.
async fn watch<M>(
    api: State<Arc<Api>>,
    (parts, reader): (&Parts, Reader),
    parameters: Parameters,
) -> Result<Response, ApiProblem>
where
    M: Message + DeserializeOwned + 'static,
{
    let route: Route = Box::pin(live(api, HeaderMap::new(), parameters.query(), reader));
    let (route, mut events) = route.await?.into_parts();
    let mut response = reply_stream(&parts.extensions, async move |replies| {
        loop {
            let event = tokio::select! {
                event = events.frame() => event,
                () = replies.left() => return Ok(()),
            };
            // A stream ends only with the process.
            let Some(Ok(event)) = event else {
                return Err(ApiProblem::shutting_down());
            };
            let Some(json) = event.data_ref().and_then(data) else { continue };
            if replies.send(&message::<M>(json)?).await.is_err() {
                return Ok(());
            }
        }
    });
    // The scope that a stream of private subjects needs for as long as it lasts.
    response.extensions_mut().extend(route.extensions);
    Ok(response)
}
