//! Requests of transactions that are lost, and those that arrive when their client has given up: the next transaction
//! must not feel them.

use crate::{TURN, services};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally_exactness::faults::{Broker, Cut, Loss, Proxy};
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::{
    Cleanup, CommittedOffset, GroupMetadata, Log, LogError, Polled, ProducerRecord, Readiness, TopicPartition,
    TopicSpec, TransactionalProducer,
};
use tally_testkit::{Client, PATIENCE, Scratch, Site, now_ms, wait_until};

/// The requests that act on a transaction.
const OF_TRANSACTIONS: [&str; 5] = ["AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"];
const PARTITIONS: u32 = 2;

#[test]
fn a_late_request_does_not_act_on_the_next_transaction() {
    if services() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Scratch::new();
        let broker = Broker::start(dir.path());
        let log = KafkaLog::open(KafkaOptions::new(broker.proxy.address.to_string())).unwrap();
        for loss in Loss::ALL {
            for request in OF_TRANSACTIONS {
                lose(&log, &broker.proxy, Cut { request, loss });
            }
        }
    }
}

/// One transaction before the fault, one with it, one that is open while the late request arrives and is then aborted,
/// and one after all.
fn lose(log: &KafkaLog, proxy: &Proxy, cut: Cut) {
    let topic = format!("{}-{:?}", cut.request, cut.loss).to_lowercase();
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    };
    log.ensure_topics(&[spec]).unwrap();
    let mut producer = log.producer(&topic).unwrap();
    fill(producer.as_mut(), &topic, "first").unwrap();
    producer.commit().unwrap();

    let cuts = proxy.cuts();
    proxy.arm(cut);
    let outcome = fill(producer.as_mut(), &topic, "lost").and_then(|()| producer.commit());
    assert_eq!(proxy.cuts(), cuts + 1, "{cut:?} happened");
    let mut expected = vec!["first"];
    match outcome {
        Ok(()) => expected.push("lost"),
        Err(LogError::Aborted(_)) => producer.abort().unwrap(),
        Err(LogError::Uncertain(_)) => {}
        Err(error) => panic!("{cut:?}: {error}"),
    }
    if matches!(outcome, Err(LogError::Uncertain(_))) {
        producer = log.producer(&topic).unwrap();
    } else {
        let renewed = |producer: &mut dyn TransactionalProducer| match producer.readiness().unwrap() {
            Readiness::Waiting => None,
            readiness => Some(readiness),
        };
        let readiness = wait_until("a new producer", || renewed(producer.as_mut()));
        assert_eq!(readiness, Readiness::Renewed, "{cut:?}: the producer is replaced");
    }

    fill(producer.as_mut(), &topic, "aborted").unwrap();
    assert_eq!(proxy.deliver(), usize::from(cut.loss == Loss::Late), "{cut:?}");
    producer.abort().unwrap();
    fill(producer.as_mut(), &topic, "last").unwrap();
    producer.commit().unwrap();
    expected.push("last");
    for partition in 0..PARTITIONS {
        let mut found = read(log, &TopicPartition::new(topic.as_str(), partition));
        if matches!(outcome, Err(LogError::Uncertain(_))) {
            found.retain(|value| value != "lost");
        }
        assert_eq!(found, expected, "{cut:?}, partition {partition}");
    }
}

/// A transaction that the broker has all of, but for its end.
fn fill(producer: &mut dyn TransactionalProducer, topic: &str, value: &str) -> Result<(), LogError> {
    for partition in 0..PARTITIONS {
        let value = Some(value.as_bytes());
        producer.send(ProducerRecord { topic, partition, key: None, value, headers: &[] })?;
    }
    let group = GroupMetadata { group: format!("{topic}-group"), ..GroupMetadata::default() };
    let offset = CommittedOffset { offset: 0, metadata: String::new() };
    // Waits until every record is acknowledged.
    producer.send_offsets(&group, &[(TopicPartition::new(topic, 0), offset)])
}

/// What is committed, once nothing is open.
fn read(log: &KafkaLog, partition: &TopicPartition) -> Vec<String> {
    let of = std::slice::from_ref(partition);
    let end = wait_until("every transaction to be over", || {
        let (end, written) = (log.ends(of).unwrap(), log.written_ends(of).unwrap());
        (end == written).then_some(end[0])
    });
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(partition, 0).unwrap();
    let (mut next, mut values) = (0, Vec::new());
    let begun = Instant::now();
    while next < end {
        assert!(begun.elapsed() < PATIENCE, "{partition} is read up to {next} of {end}");
        if let Polled::Records { records, next_offset, .. } = consumer.poll(Duration::from_millis(100)).unwrap() {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            values.extend(records.map(|record| text(record.unwrap().value.unwrap_or_default())));
            next = next_offset;
        }
    }
    values
}

/// Until the next connection is cut.
const CUT_EVERY: Duration = Duration::from_secs(2);
/// Within this many cuts something must have been counted.
const PROGRESSED: u32 = 5;
const SUBJECTS: u64 = 20;

#[test]
fn cuts_every_two_seconds_and_a_restart_of_the_broker_let_it_progress() {
    if services() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Scratch::new();
        let broker = Broker::start(dir.path());
        let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
        let log = format!("kafka://{}", broker.proxy.address);
        let (database, state) = (site.database_url(), site.state_dir.clone());
        let flags = ["run", "--log", &log, "--database", &database, "--state", &state.display().to_string()];
        site.role = Some(flags.map(str::to_owned).into());
        let mut service = site.start();
        let client = Client(site.listen.clone());
        let over = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feed(&client, &over));
            cut_again_and_again(&broker, &client);
            over.store(true, Ordering::SeqCst);
            feeding.join().unwrap()
        });
        assert!(service.ended().is_none(), "{}", site.messages());
        client.wait_until_applied();
        let subjects: Vec<_> = (0..SUBJECTS).map(|subject| format!("article:{subject}")).collect();
        let counted: BTreeMap<_, _> = client.counters(&subjects).into_iter().map(|(s, c)| (s, c["shares"])).collect();
        let expected = (0..SUBJECTS).map(|subject| (format!("article:{subject}"), (sent / SUBJECTS) as i64)).collect();
        assert_eq!(counted, expected);
        assert!(site.messages().contains("the producer is replaced"), "no cut was noticed");
        assert!(service.terminate().0.success());
    }
}

/// Every request that acts on a transaction, each lost in each way, two seconds apart, until something was counted
/// between two cuts a few times; then a broker that is killed and comes back.
fn cut_again_and_again(broker: &Broker, client: &Client) {
    let shares = || client.counters(&["article:0".to_owned()])["article:0"].get("shares").copied().unwrap_or(0);
    let all: Vec<_> =
        Loss::ALL.into_iter().flat_map(|loss| OF_TRANSACTIONS.map(|request| Cut { request, loss })).collect();
    let (begun, mut progressed) = (Instant::now(), 0);
    for (number, cut) in all.iter().cycle().enumerate() {
        if number >= all.len() && progressed >= PROGRESSED {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{number} cuts, and only between {progressed} of them something was counted"
        );
        let cuts = broker.proxy.cuts();
        broker.proxy.arm(*cut);
        wait_until("a cut", || (broker.proxy.cuts() > cuts).then_some(()));
        let before = shares();
        // The next cut comes after this time, whatever was counted.
        std::thread::sleep(CUT_EVERY);
        progressed += u32::from(shares() > before);
        broker.proxy.deliver();
    }
    let before = shares();
    broker.restart();
    wait_until("more to be counted", || (shares() > before).then_some(()));
}

/// Sends events until it is stopped, each by an actor of its own and to every subject in turn; how many. What is not
/// acknowledged is sent again.
fn feed(client: &Client, over: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !over.load(Ordering::SeqCst) {
        let now_ms = now_ms();
        let event = |subject: u64| {
            let actor = format!("u{}", sent + subject);
            let subject = format!("article:{subject}");
            serde_json::json!({"event_id": actor, "type": "share", "actor_id": actor, "subject_id": subject,
                "occurred_at": now_ms})
            .to_string()
        };
        let lines = (0..SUBJECTS).map(event).collect::<Vec<_>>().join("\n");
        wait_until("a batch to be acknowledged", || {
            let answer = client.post("/v1/events", "application/x-ndjson", lines.as_bytes()).ok()?;
            (answer.status == 202).then_some(())
        });
        sent += SUBJECTS;
        // Not faster than what a debug build counts beside a broker.
        std::thread::sleep(Duration::from_millis(20));
    }
    sent
}
