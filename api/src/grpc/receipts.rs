//! `tally.v1.Receipts`.

use super::answer::{answer, read};
use super::parameters::Parameters;
use crate::routes::receipts;
use crate::state::Api;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_proto::tally::v1::{GetReceiptRequest, GetReceiptResponse};

/// `GetReceipt`.
pub async fn get_receipt(api: State<Arc<Api>>, request: Request) -> Result<Response, ApiProblem> {
    let (_, GetReceiptRequest { receipt }) = read(request).await?;
    let query = Parameters::default().query();
    answer::<GetReceiptResponse>(Box::pin(receipts::receipt(api, Ok(Path(receipt)), query))).await
}
