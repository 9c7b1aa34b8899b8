//! Requests, and the answers of routes as messages.

use super::REQUEST_BYTES_MAX;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use std::pin::Pin;
use tally_http::ApiProblem;
use tally_http::grpc::{read_message, reply};
use tally_proto::Message;

/// The message of a unary call.
pub async fn read<M: Message + Default>(request: Request) -> Result<(Parts, M), ApiProblem> {
    let (parts, body) = request.into_parts();
    let message = read_message(&parts.headers, body, REQUEST_BYTES_MAX, |_| Ok(())).await?;
    Ok((parts, message))
}

/// The future of a route. Boxed, because the compiler does not lay out futures of reads that are nested any deeper.
pub type Route = Pin<Box<dyn Future<Output = Result<Response, ApiProblem>> + Send>>;

/// The answer of a route as a message.
pub async fn answer<M: Message + DeserializeOwned>(route: Route) -> Result<Response, ApiProblem> {
    let response = route.await?;
    // Routes answer out of memory.
    let json = to_bytes(response.into_body(), usize::MAX).await.map_err(|error| broken(&error))?;
    message::<M>(&json).map(|message| reply(&message))
}

/// An answer in JSON as a message.
pub fn message<M: DeserializeOwned>(json: &[u8]) -> Result<M, ApiProblem> {
    serde_json::from_slice(json).map_err(|error| broken(&error))
}

/// An answer that is not as its message wants it.
fn broken(error: &dyn std::error::Error) -> ApiProblem {
    tracing::error!(%error, "an answer cannot be written as a message");
    ApiProblem::internal()
}

/// The data of a server-sent event; None for comments.
pub fn data(event: &Bytes) -> Option<&[u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "))
}
