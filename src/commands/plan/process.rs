//! The log of a process that runs, over its API.

use crate::commands::Failure;
use crate::commands::send::{bearer, service_uri};
use crate::process::planning::{PATH, PlanAnswer, PlanRequest};
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode, Uri};
use std::time::Duration;
use tally_http::{ClientError, ClientLimits, HttpClient, causes};
use tally_model::{Problem, from_object};

const LIMITS: ClientLimits = ClientLimits {
    connect: Some(Duration::from_secs(5)),
    exchange: Duration::from_secs(30),
    // 8 MiB of events in base64, and what stands around each of them.
    body_bytes_max: 64 << 20,
};

/// Sends a request once; `to` is `http://host:port`, perhaps with a path in front of `/v1`.
pub fn ask(to: &str, api_key: Option<&str>, request: &PlanRequest) -> Result<PlanAnswer, Failure> {
    let uri = service_uri(to, PATH).map_err(|why| Failure::usage(format!("--against {to}: {why}")))?;
    let mut sent = Request::post(uri.clone()).header(CONTENT_TYPE, "application/json");
    if let Some(authorization) = bearer(api_key)? {
        sent = sent.header(AUTHORIZATION, authorization);
    }
    let body = serde_json::to_vec(request).map_err(Failure::no)?;
    let sent = sent.body(Bytes::from(body)).map_err(Failure::no)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::no)?;
    let response = runtime.block_on(HttpClient::plain(LIMITS).send(sent));
    let (head, body) = match response {
        Ok(response) => response.into_parts(),
        Err(ClientError::Late) => return Err(failed(&uri, "no answer within 30 s")),
        Err(ClientError::Exchange(error)) => return Err(failed(&uri, causes(&error))),
    };
    let body = body.map_err(|error| failed(&uri, causes(&*error)))?;
    match head.status {
        StatusCode::OK => from_object(&body).map_err(|error| failed(&uri, format!("an unknown answer: {error}"))),
        status => Err(failed(&uri, reason(status, &body))),
    }
}

fn failed(uri: &Uri, why: impl std::fmt::Display) -> Failure {
    Failure::no(format!("{uri}: {why}"))
}

fn reason(status: StatusCode, body: &[u8]) -> String {
    match from_object::<Problem>(body) {
        Ok(Problem { title, detail, .. }) => format!("{}: {title}: {detail}", status.as_u16()),
        Err(_) => status.to_string(),
    }
}
