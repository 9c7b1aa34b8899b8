//! A hanging transaction: it is reported with everything that Kafka's own tools need, and they end it.

use crate::{TURN, services};
use std::process::Command;
use std::sync::PoisonError;
use std::time::Duration;
use tally_exactness::faults::{Broker, kafka_jars};
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::{CommittedOffset, GroupMetadata, Log, ProducerRecord, TopicPartition};
use tally_testkit::{Client, Scratch, Site, wait_until};

/// The partition with the hanging transaction.
const TOPIC: &str = "counters";
const PARTITION: u32 = 3;

#[test]
fn a_transaction_left_hanging_is_reported_and_ended_with_the_command_that_is_printed() {
    if services() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = Scratch::new();
        let broker = Broker::start(dir.path());
        let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
        let log = format!("kafka://{}", broker.proxy.address);
        site.role = Some(
            ["process", "--log", &log, "--state", &site.state_dir.display().to_string()].map(str::to_owned).into(),
        );
        let service = site.start();

        // Open for longer than any of tally's own.
        let options = KafkaOptions::new(broker.proxy.address.to_string());
        let stranger = KafkaOptions { transaction_timeout: Duration::from_secs(600), ..options };
        let stranger = KafkaLog::open(stranger).unwrap();
        let mut producer = stranger.producer("stranger").unwrap();
        let value = Some(&b"{}"[..]);
        producer
            .send(ProducerRecord { topic: TOPIC, partition: PARTITION, key: Some(b"article:1"), value, headers: &[] })
            .unwrap();
        let (group, offset) = (
            GroupMetadata { group: "stranger".into(), ..GroupMetadata::default() },
            CommittedOffset { offset: 0, metadata: String::new() },
        );
        // Returns when the record is acknowledged.
        producer.send_offsets(&group, &[(TopicPartition::new(TOPIC, PARTITION), offset)]).unwrap();

        let found = |words: &str| {
            let messages = site.messages();
            let line = messages.lines().find(|line| line.contains(words))?;
            Some(serde_json::from_str::<serde_json::Value>(line).unwrap())
        };
        let error = wait_until("the transaction to be reported", || found("a transaction hangs"));
        assert_eq!(
            (&error["level"], &error["topic"], &error["partition"]),
            (&"ERROR".into(), &TOPIC.into(), &PARTITION.into())
        );
        let number = |name: &str| error[name].as_str().and_then(|text| text.parse::<i64>().ok());
        assert!(number("producer_id") >= Some(0) && number("producer_epoch") >= Some(0), "{error}");
        let client = Client(site.listen.clone());
        let metric = || String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        assert!(metric().contains("tally_log_hanging_transactions{topic=\"counters\"} 1\n"), "{}", metric());

        for name in ["describe", "find", "abort"] {
            let command = error[name].as_str().unwrap();
            let (tool, arguments) = command.split_once(' ').unwrap();
            assert_eq!(tool, "kafka-transactions.sh");
            let class_path = format!("{}/*", kafka_jars());
            let mut java = Command::new("java");
            java.args(["-XX:TieredStopAtLevel=1", "-cp", &class_path, "org.apache.kafka.tools.TransactionsCommand"]);
            let output = java.args(arguments.split(' ')).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            println!("{command}\n{said}");
            assert!(output.status.success(), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
            let shows = name != "describe" || said.contains(error["producer_id"].as_str().unwrap());
            assert!(shows, "{command}: {said}");
        }
        wait_until("the end to be noticed", || found("a hanging transaction is over"));
        assert!(metric().contains("tally_log_hanging_transactions{topic=\"counters\"} 0\n"), "{}", metric());
        assert!(service.terminate().0.success());

        // What is left when the coordinator had committed what was aborted: offsets, and a changelog that ends before them.
        let mut producer = stranger.producer("by-hand").unwrap();
        let group = GroupMetadata { group: "tally".into(), ..GroupMetadata::default() };
        let offset = CommittedOffset { offset: 1_000, metadata: String::new() };
        producer.send_offsets(&group, &[(TopicPartition::new("user-actions", 0), offset)]).unwrap();
        producer.commit().unwrap();
        let mut service = site.spawn();
        let status = wait_until("the task to refuse", || service.ended());
        let messages = site.messages();
        let last = messages.lines().rfind(|line| line.contains("a stream thread cannot go on")).unwrap_or_default();
        assert_eq!(status.code(), Some(1), "{messages}");
        assert!(last.contains("user-actions/0") && last.contains("was aborted by hand"), "{last}");
    }
}
