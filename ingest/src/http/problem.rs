//! A refusal as a problem of HTTP.

use crate::refusal::Refusal;
use axum::http::StatusCode;
use tally_http::ApiProblem;

impl From<Refusal> for ApiProblem {
    fn from(refusal: Refusal) -> Self {
        let (detail, retry_after_s) = (refusal.to_string(), refusal.retry_after_s().unwrap_or_default());
        match refusal {
            Refusal::Malformed(_) => Self::bad_request(detail),
            Refusal::TooManyEvents => Self::payload_too_large(detail),
            Refusal::Invalid(rejected) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-event", "No valid event", detail)
                    .with("rejected", rejected)
            }
            Refusal::Overloaded => Self::too_many_requests(detail, retry_after_s),
            Refusal::Limited { rejected, .. } => {
                Self::too_many_requests(detail, retry_after_s).with("rejected", rejected)
            }
            Refusal::ClockInDoubt(_) | Refusal::LogBusy | Refusal::LogUnavailable => {
                Self::unavailable(detail, retry_after_s)
            }
            Refusal::LogFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "log-full", "The log is full", detail)
                .retry_after(retry_after_s),
            Refusal::OutcomeUnknown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", "Outcome unknown", detail)
                    .retry_after(retry_after_s)
            }
            Refusal::Internal => Self::internal(),
        }
    }
}
