//! Events that are streamed while the process is killed again and again: each counts once.

use super::client::{Grpc, event_of};
use super::site;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;
use tally_proto::tally::v1::{
    BatchGetCountersRequest, BatchGetCountersResponse, GetReceiptRequest, GetReceiptResponse, PublishStreamRequest,
    PublishStreamResponse, metric_value::Kind,
};
use tally_testkit::{Client, PATIENCE, Scratch};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

const SUBJECTS: usize = 100;
/// Events of one actor, fewer than a rate rule of the topology lets through.
const EVENTS_PER_ACTOR: usize = 10;

fn batch(events: Range<usize>) -> PublishStreamRequest {
    let event = |n: usize| {
        let (actor, subject) = (format!("u{}", n / EVENTS_PER_ACTOR), format!("a:{}", n % SUBJECTS));
        event_of(&format!("e{n}"), "share", &actor, &subject)
    };
    PublishStreamRequest { events: events.map(event).collect() }
}

/// Streams `events` in batches, kills the process `kills` times on the way, and compares the counters in the end.
async fn is_exact(dir: &Path, events: usize, batch_events: usize, kills: usize) {
    let site = site(dir);
    let mut service = site.start();
    let batches = events / batch_events;
    let (begun, mut acknowledged, mut killed) = (Instant::now(), 0, 0);
    let mut receipts_of_repeats = Vec::new();
    while acknowledged < batches {
        // The process may have stored batches without a response. The last one with a response is sent again too, as
        // by a client that has not noted it.
        let first = acknowledged.saturating_sub(1);
        let (sender, requests) = mpsc::channel(1);
        tokio::spawn(async move {
            for n in first..batches {
                // The stream may have ended with the process.
                if sender.send(batch(n * batch_events..(n + 1) * batch_events)).await.is_err() {
                    return;
                }
            }
        });
        let mut grpc = Grpc::connect(&site.listen).await;
        let path = "/tally.v1.Events/PublishStream";
        let responses = grpc.stream::<_, PublishStreamResponse>(path, ReceiverStream::new(requests));
        let mut responses = timeout(PATIENCE, responses).await.unwrap().unwrap();
        let (mut at, mut is_killed) = (first, false);
        loop {
            match timeout(PATIENCE, responses.message()).await.unwrap() {
                Ok(Some(response)) => {
                    assert_eq!((response.accepted as usize, response.rejected.len()), (batch_events, 0));
                    if at < acknowledged {
                        receipts_of_repeats.push(response.receipt);
                    }
                    at += 1;
                    acknowledged = acknowledged.max(at);
                }
                Ok(None) => {
                    assert_eq!(acknowledged, batches);
                    break;
                }
                Err(status) => {
                    assert!(is_killed, "{status:?}");
                    break;
                }
            }
            if killed < kills && acknowledged == (killed + 1) * batches / (kills + 1) {
                (killed, is_killed) = (killed + 1, true);
                service.kill();
                service = site.start();
            }
        }
    }
    assert_eq!((killed, receipts_of_repeats.len()), (kills, kills));
    println!("{events} events, {kills} kills: acknowledged after {:.1?}", begun.elapsed());
    let client = Client(site.listen.clone());
    tokio::task::spawn_blocking(move || client.wait_until_applied()).await.unwrap();
    println!("applied after {:.1?}; the last process: {}", begun.elapsed(), service.usage());

    let mut grpc = Grpc::connect(&site.listen).await;
    let subject_ids = (0..SUBJECTS).map(|n| format!("a:{n}")).collect();
    let request = BatchGetCountersRequest { subject_ids, ..BatchGetCountersRequest::default() };
    let path = "/tally.v1.Counters/BatchGetCounters";
    let read: BatchGetCountersResponse = grpc.unary(path, request).await.unwrap();
    let shares: Vec<_> = read.items.iter().map(|item| item.counters["shares"].kind.clone()).collect();
    assert_eq!(shares, vec![Some(Kind::Integer((events / SUBJECTS) as i64)); SUBJECTS]);
    for receipt in receipts_of_repeats {
        let request = GetReceiptRequest { receipt };
        let outcome: GetReceiptResponse = grpc.unary("/tally.v1.Receipts/GetReceipt", request).await.unwrap();
        let verdicts: Vec<_> = outcome.not_counted.unwrap().events.into_iter().map(|event| event.verdict).collect();
        assert_eq!(verdicts, vec!["duplicate"; batch_events]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_resumed_after_a_kill_counts_every_event_once() {
    let dir = Scratch::new();
    is_exact(dir.path(), 10_000, 100, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release --test grpc -- --ignored --nocapture"]
async fn a_million_events_are_exact_through_kills() {
    let dir = Scratch::new();
    is_exact(dir.path(), 1_000_000, 500, 8).await;
}
