//! Nothing is answered with 202 before the log has it, and what the log cannot do becomes a status.

mod fixture;

use axum::body::Body;
use fixture::{Bed, Script, config, event, request};
use std::sync::Arc;
use std::time::Duration;
use tally_ingest::IngestConfig;
use tally_streams::log::LogError;
use tally_testkit::eventually;

#[tokio::test]
async fn no_answer_before_the_log_has_it() {
    let bed = Arc::new(Bed::new());
    bed.script(Script::Hold);
    let sender = bed.clone();
    let mut answer = tokio::spawn(async move { sender.post(event("e1")).await });
    eventually("the events are appended", async || !bed.log.held.lock().unwrap().is_empty()).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut answer).await.is_err(), "answered too early");
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"accepted\"}"), 0.0);
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 1.0);

    let done = bed.log.held.lock().unwrap().remove(0);
    done(Ok(vec![(0, 41)]));
    assert_eq!(answer.await.unwrap().status, 202);
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"accepted\"}"), 1.0);
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 0.0);
    assert_eq!(bed.metric("tally_ingest_append_seconds_count"), 1.0);
}

#[tokio::test]
async fn failures_are_told_apart() {
    let bed = Bed::new();
    let text = || "deep inside".to_owned();
    let cases = [
        (LogError::Busy, 503, "1", "unavailable", "No event was accepted", "busy"),
        (LogError::Unavailable(text()), 503, "1", "unavailable", "No event was accepted", "unavailable"),
        (LogError::Full(text()), 507, "30", "log-full", "disk is full", "full"),
        (LogError::Uncertain(text()), 503, "1", "outcome-unknown", "with the same event_id", "failed"),
        (LogError::Fatal(text()), 503, "1", "outcome-unknown", "outcome is unknown", "failed"),
        (LogError::UnknownTopic(text()), 503, "1", "outcome-unknown", "outcome is unknown", "failed"),
    ];
    for (error, status, retry_after, slug, detail, reason) in cases {
        let counter = format!("tally_ingest_unavailable_total{{reason=\"{reason}\"}}");
        bed.script(Script::Fail(error.clone()));
        let answer = bed.post(event("e1")).await;
        assert_eq!(answer.status, status, "{error}");
        assert_eq!(answer.headers["retry-after"], retry_after, "{error}");
        assert_eq!(answer.body["type"], format!("urn:tally:problem:{slug}"), "{error}");
        assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{error}: {}", answer.body);
        assert!(!answer.body.to_string().contains("deep inside"), "{error}");
        assert!(bed.metric(&counter) >= 1.0, "{error}");
    }
    bed.script(Script::Forget);
    assert_eq!(bed.post(event("e1")).await.status, 503);
    assert_eq!(bed.metric("tally_ingest_events_total{outcome=\"accepted\"}"), 0.0);
    bed.script(Script::Take);
    assert_eq!(bed.post(event("e1")).await.status, 202);
}

#[tokio::test]
async fn a_silent_log_leaves_the_outcome_unknown() {
    let bed = Bed::with(IngestConfig { append_timeout: Duration::from_millis(20), ..config() });
    bed.script(Script::Hold);
    let answer = bed.post(event("e1")).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(answer.body["detail"].as_str().unwrap().contains("outcome is unknown. Repeat the request with the same"));
    assert_eq!(bed.metric("tally_ingest_unavailable_total{reason=\"timeout\"}"), 1.0);
    // The bytes are still in the log's queue, so they still take room.
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 1.0);
    bed.log.held.lock().unwrap().clear();
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn beyond_its_room_the_service_refuses_at_once() {
    let bed = Arc::new(Bed::with(IngestConfig { requests_max: 2, ..config() }));
    bed.script(Script::Hold);
    let send = || {
        let bed = bed.clone();
        tokio::spawn(async move { bed.post(event("e1")).await })
    };
    let under_way = [send(), send()];
    eventually("both wait for the log", async || bed.log.held.lock().unwrap().len() == 2).await;
    let answer = bed.post(event("e2")).await;
    assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(*bed.log.appends.lock().unwrap(), 2);
    assert_eq!(bed.metric("tally_ingest_unavailable_total{reason=\"overloaded\"}"), 1.0);

    bed.log.held.lock().unwrap().drain(..).for_each(|done| done(Ok(vec![(0, 1)])));
    for sent in under_way {
        assert_eq!(sent.await.unwrap().status, 202);
    }
    bed.script(Script::Take);
    assert_eq!(bed.post(event("e2")).await.status, 202);
}

#[tokio::test]
async fn bytes_that_wait_count_against_the_room() {
    let bed = Arc::new(Bed::with(IngestConfig { bytes_max: 1 << 20, ..config() }));
    bed.script(Script::Hold);
    let large = format!("{}{}", event("e1"), " ".repeat((1 << 20) - 200));
    let first = {
        let (bed, large) = (bed.clone(), large.clone());
        tokio::spawn(async move { bed.post(large).await })
    };
    eventually("the first waits for the log", async || bed.log.held.lock().unwrap().len() == 1).await;
    assert_eq!(bed.post(large).await.status, 429);
    bed.log.held.lock().unwrap().remove(0)(Ok(vec![(0, 1)]));
    assert_eq!(first.await.unwrap().status, 202);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_room_once_the_log_has_answered() {
    let bed = Arc::new(Bed::new());
    bed.script(Script::Hold);
    let sender = bed.clone();
    let sent = tokio::spawn(async move { sender.send(request("application/json", Body::from(event("e1")))).await });
    eventually("the events are appended", async || !bed.log.held.lock().unwrap().is_empty()).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 1.0);
    bed.log.held.lock().unwrap().remove(0)(Ok(vec![(0, 1)]));
    assert_eq!(bed.metric("tally_ingest_requests_in_flight"), 0.0);
}
