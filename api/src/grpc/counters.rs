//! `tally.v1.Counters`.

use super::answer::{Route, answer, read};
use super::parameters::Parameters;
use crate::routes::{Has, Reader, counters};
use crate::state::Api;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_proto::tally::v1::{
    BatchGetCountersRequest, BatchGetCountersResponse, GetCountersRequest, GetCountersResponse, GetSeriesRequest,
    GetSeriesResponse,
};

/// `GetCounters`.
pub async fn get_counters(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (_, GetCountersRequest { subject_id, after }) = read(request).await?;
    let query = Parameters::default().with_after(after).query();
    answer::<GetCountersResponse>(of_subject(api, reader, subject_id, query)).await
}

/// `BatchGetCounters`.
pub async fn batch_get_counters(
    api: State<Arc<Api>>,
    reader: Reader,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (_, BatchGetCountersRequest { subject_ids, actor_id, after }) = read(request).await?;
    let parameters = Parameters::default().with_each("subject_id", subject_ids).with_each("actor_id", actor_id);
    let query = parameters.with_after(after).query();
    answer::<BatchGetCountersResponse>(Box::pin(counters::many_counters(api, query, reader, Has::NOTHING))).await
}

/// `GetSeries`.
pub async fn get_series(api: State<Arc<Api>>, reader: Reader, request: Request) -> Result<Response, ApiProblem> {
    let (_, GetSeriesRequest { subject_id, window, metrics, from, to, after }) = read(request).await?;
    let parameters = Parameters::default().with("window", window).with_each("metric", metrics);
    let query = parameters.with_each("from", from).with_each("to", to).with_after(after).query();
    answer::<GetSeriesResponse>(of_subject(api, reader, subject_id, query)).await
}

/// The counters of a subject, all or in windows.
fn of_subject(api: State<Arc<Api>>, reader: Reader, subject_id: String, query: RawQuery) -> Route {
    Box::pin(counters::subject_counters(api, Ok(Path(subject_id)), query, reader, Has::NOTHING))
}
