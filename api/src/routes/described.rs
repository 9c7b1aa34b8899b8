//! Parameters and responses that several routes have, for `/openapi.json`.

use std::collections::BTreeMap;
use tally_http::ApiProblem;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, ToSchema};

/// By status.
pub type Responses = BTreeMap<String, RefOr<Response>>;

/// Parameters of lists with pages.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only described")]
pub struct PageParams {
    /// 1 to 100; 50 by default
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next` of the previous page
    cursor: Option<String>,
}

/// Parameters of reads that can wait for the events of a receipt.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only described")]
pub struct AfterParams {
    /// A receipt: waits until everything it covers is visible
    after: Option<String>,
    /// The longest wait in milliseconds; 1000 by default, up to 10000
    #[param(maximum = 10_000)]
    wait_ms: Option<u64>,
}

/// Responses of reads that can wait for the events of a receipt and have an ETag.
pub enum AfterResponses {}

impl IntoResponses for AfterResponses {
    fn responses() -> Responses {
        let unchanged = ResponseBuilder::new().description("The content still matches If-None-Match").build();
        let problems = problems([
            (410, "The receipt belongs to a log that was replaced"),
            (503, "The database does not respond; see Retry-After"),
        ]);
        problems.into_iter().chain([("304".to_owned(), unchanged.into())]).collect()
    }
}

/// Responses with a problem.
pub fn problems<const N: usize>(problems: [(u16, &str); N]) -> Responses {
    let response = |(status, description): (u16, &str)| {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(ApiProblem::name()))).build();
        let response = ResponseBuilder::new().description(description).content("application/problem+json", problem);
        (status.to_string(), response.build().into())
    };
    problems.into_iter().map(response).collect()
}
