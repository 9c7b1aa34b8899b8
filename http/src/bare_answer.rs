//! Responses that hyper sends by itself to requests that it cannot parse: a status without a body. No request reaches
//! the router, so nothing that surrounds the routes sees it; the body is put in where the answer is written.

use crate::problem::{ApiProblem, PROBLEM_JSON};
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use axum::http::StatusCode;

/// hyper's limit on header fields (`max_headers`).
const HEADERS_MAX: usize = 100;
/// The longest address that the crate `http` takes.
const ADDRESS_BYTES_MAX: usize = u16::MAX as usize - 1;

/// The answer in place of one of hyper's own; None where `head` begins no such answer. Every answer of a route has a
/// request id.
pub(crate) fn with_problem(head: &[u8], header_bytes_max: usize) -> Option<Vec<u8>> {
    let status = head.strip_prefix(b"HTTP/1.1 ")?.get(..3).filter(|status| status.starts_with(b"4"))?;
    let has = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    let id_line = format!("\r\n{REQUEST_ID_HEADER}:");
    if !head.ends_with(b"\r\n\r\n") || !has(b"\r\ncontent-length: 0\r\n") || has(id_line.as_bytes()) {
        return None;
    }
    let problem = problem(StatusCode::from_bytes(status).ok()?, header_bytes_max);
    let (status, id) = (problem.status(), RequestId::new());
    let body = problem.to_json(id.as_str());
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\n{REQUEST_ID_HEADER}: {}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Refused"),
        id.as_str(),
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    Some(answer)
}

fn problem(status: StatusCode, header_bytes_max: usize) -> ApiProblem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ApiProblem::new(
            status,
            "head-too-large",
            "Request head too large",
            format!(
                "The request line and headers may have at most {header_bytes_max} bytes in total, and \
                 at most {HEADERS_MAX} headers. Send fewer or shorter headers."
            ),
        ),
        StatusCode::URI_TOO_LONG => ApiProblem::new(
            status,
            "address-too-long",
            "Request URL too long",
            format!("A URL may have at most {ADDRESS_BYTES_MAX} bytes. Request fewer items at once."),
        ),
        StatusCode::BAD_REQUEST => {
            ApiProblem::bad_request("Not a valid HTTP/1.1 request: the method, URL, version or a header is malformed.")
        }
        other => ApiProblem::of_status(other, "Invalid request."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_hypers_own_is_replaced() {
        let own = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(with_problem(own.as_bytes(), 65_536).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())) && head.ends_with("connection: close"));
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&"urn:tally:problem:head-too-large".into(), &431.into()));
        assert!(problem["detail"].as_str().unwrap().contains("65536 bytes"), "{problem}");
        assert!(head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())));
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(with_problem(other.as_bytes(), 1), None, "{other:?}");
        }
    }
}
