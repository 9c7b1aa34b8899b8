use super::lanes::Lane;
use super::*;
use crate::log::AppendedOffsets;
use std::sync::mpsc::{Receiver, channel};

type Outcome = Result<AppendedOffsets, LogError>;

/// A request of two records, and what is told of it.
fn request() -> (Pending, Receiver<Outcome>) {
    let (tell, told) = channel();
    let done: Completion = Box::new(move |outcome| drop(tell.send(outcome)));
    let (last, queued_bytes) = (Vec::new(), Arc::default());
    (Pending { done: Some(done), missing: 2, last, error: None, bytes: 0, queued_bytes }, told)
}

/// How a request ended; None if it has not within a minute.
fn outcome(told: &Receiver<Outcome>) -> Option<Outcome> {
    told.recv_timeout(Duration::from_secs(60)).ok()
}

fn record(partition: u32) -> OwnedRecord {
    OwnedRecord { partition, key: None, value: Some("v".into()), headers: bytes::Bytes::new() }
}

/// A client that reaches no broker.
fn client() -> Arc<Client> {
    Client::start(ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1")).unwrap()
}

/// One record more is under way to a lane.
fn occupy(lanes: &Lanes, partition: u32) {
    let mut lane = lanes.lane(partition).unwrap();
    lanes.load.lanes_under_way.fetch_add(usize::from(lane.under_way == 0), Ordering::Relaxed);
    lane.under_way += 1;
}

#[test]
fn a_request_succeeds_when_all_its_records_are_delivered() {
    let (mut request, told) = request();
    request.delivered(1, 1, 7);
    request.delivered(0, 1, 3);
    drop(request);
    assert_eq!(outcome(&told), Some(Ok(vec![(0, 3), (1, 7)])));
}

#[test]
fn a_request_fails_when_a_record_was_never_sent() {
    let (mut request, told) = request();
    request.delivered(1, 1, 7);
    drop(request);
    assert!(matches!(outcome(&told), Some(Err(LogError::Uncertain(_)))));
}

#[test]
fn a_request_fails_as_its_first_record_that_did() {
    let (mut request, told) = request();
    request.refuse(LogError::UnknownTopic("t".into()));
    request.refuse(LogError::Uncertain("later".into()));
    drop(request);
    assert_eq!(outcome(&told), Some(Err(LogError::UnknownTopic("t".into()))));
}

#[test]
fn a_lane_is_closed_while_something_waits_or_is_under_way() {
    let client = client();
    let lanes = client.lanes("t", 1).unwrap();
    let waiting = || {
        let request = Request { lanes: lanes.clone(), pending: Mutex::new(request().0) };
        vec![(record(0), Arc::new(request))]
    };
    let lane = |under_way, gathers, waiting| Lane { under_way, gathers, waiting };
    assert!(lane(0, false, vec![]).is_open());
    assert!(!lane(3, false, vec![]).is_open(), "the answer is still to come");
    assert!(!lane(0, true, vec![]).is_open(), "others are about to be sent");
    assert!(!lane(0, false, waiting()).is_open(), "others came before");
}

#[test]
fn records_behind_an_unanswered_one_wait_and_are_sent_with_its_answer() {
    let client = client();
    let lanes = client.lanes("t", 2).unwrap();
    let state = |partition| {
        let lane = lanes.lane(partition).unwrap();
        (lane.under_way, lane.waiting.len())
    };
    let load =
        || (client.load.lanes_under_way.load(Ordering::Relaxed), client.load.records_waiting.load(Ordering::Relaxed));
    occupy(&lanes, 0);
    let (pending, told) = request();
    client.send(&lanes, vec![record(0), record(1)], pending);
    assert_eq!((state(0), state(1), load()), ((1, 1), (1, 0), (2, 1)));
    assert!(lanes.answered(0, 1, None));
    let (more, _told) = request();
    client.send(&lanes, vec![record(0), record(0)], more);
    assert_eq!((state(0), state(1)), ((0, 3), (1, 0)), "it gathers");
    assert_eq!(load(), (1, 3));
    lanes.release(0);
    assert_eq!((state(0), state(1), load()), ((3, 0), (1, 0), (2, 0)));
    assert!(!lanes.answered(0, 1, None), "two are still to come");
    assert!(told.try_recv().is_err());
}

#[test]
fn an_error_of_a_lane_is_that_of_all_that_wait() {
    let client = client();
    let lanes = client.lanes("t", 1).unwrap();
    occupy(&lanes, 0);
    let (pending, told) = request();
    client.send(&lanes, vec![record(0), record(0)], pending);
    let error = LogError::UnknownTopic("t".into());
    lanes.answered(0, 1, Some(&error));
    assert_eq!(outcome(&told), Some(Err(error)));
    let load = &client.load;
    assert_eq!((load.lanes_under_way.load(Ordering::Relaxed), load.records_waiting.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_round_waits_for_all_lanes_and_then_for_as_many_records_as_it_had() {
    let round = Round { records: 3, ..Round::default() };
    let load = |lanes_under_way: usize, records_waiting: usize| Load {
        lanes_under_way: lanes_under_way.into(),
        records_waiting: records_waiting.into(),
    };
    assert!(!round.is_over(&load(1, 9), GATHER), "a lane is not answered");
    assert!(!round.is_over(&load(0, 2), Duration::ZERO), "one more may come");
    assert!(round.is_over(&load(0, 3), Duration::ZERO));
    assert!(round.is_over(&load(0, 0), GATHER), "no more comes");
}

#[test]
fn a_client_that_ends_completes_every_request() {
    let client = client();
    let lanes = client.lanes("t", 3).unwrap();
    let told: Vec<_> = (0..4)
        .map(|number| {
            let (pending, told) = request();
            client.send(&lanes, vec![record(0), record(number % 2)], pending);
            told
        })
        .collect();
    // What waits for an answer that never comes, not even as the producer ends.
    occupy(&lanes, 2);
    let (pending, last) = request();
    client.send(&lanes, vec![record(2), record(2)], pending);
    assert_eq!(lanes.lane(2).unwrap().waiting.len(), 2);
    drop((client, lanes));
    for told in told.into_iter().chain([last]) {
        assert!(matches!(outcome(&told), Some(Err(LogError::Uncertain(_)))));
    }
}
