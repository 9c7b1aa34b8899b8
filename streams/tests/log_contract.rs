//! Every engine keeps the log's contract.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tally_streams::log::contract::{Harness, groups, records, transactions};
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{Cleanup, Clock, CommittedOffset, Consumer, Log, LogError, Polled, TopicPartition, TopicSpec};

fn harness(open: impl FnOnce(Clock) -> Arc<dyn Log>, keep: impl std::any::Any) -> Harness {
    let time = Arc::new(AtomicI64::new(1_000_000));
    let clock = time.clone();
    Harness {
        log: open(Arc::new(move || clock.load(Ordering::SeqCst))),
        set_clock: Some(Box::new(move |ms| time.store(ms, Ordering::SeqCst))),
        prefix: String::new(),
        patience: Duration::from_secs(60),
        keep: Box::new(keep),
    }
}

mod memory {
    use super::*;

    fn open() -> Harness {
        harness(|clock| Arc::new(MemoryLog::new(clock)), ())
    }

    tally_streams::log_contract!(open);
}

mod embedded {
    use super::*;

    fn open() -> Harness {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        harness(
            |clock| {
                let options = EmbeddedOptions { clock, ..EmbeddedOptions::default() };
                Arc::new(EmbeddedLog::open(path, options).unwrap())
            },
            dir,
        )
    }

    tally_streams::log_contract!(open);
}

mod kafka {
    use super::*;
    use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
    use tally_testkit::service;

    /// The broker to test against.
    fn broker() -> Option<String> {
        service("TALLY_TEST_KAFKA")
    }

    fn open() -> Harness {
        static NEXT: AtomicI64 = AtomicI64::new(0);
        let options = KafkaOptions::new(broker().unwrap());
        let (run, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        Harness {
            log: Arc::new(KafkaLog::open(options).unwrap()),
            set_clock: None,
            prefix: format!("contract-{run}-{since}-{number}-"),
            patience: Duration::from_secs(60),
            keep: Box::new(()),
        }
    }

    tally_streams::log_contract!(open, || broker().is_some());

    /// A member: what it owns, or why it gave up.
    struct Twin {
        consumer: Box<dyn Consumer>,
        owned: BTreeSet<u32>,
        lost: u32,
        ended: Option<String>,
    }

    impl Twin {
        fn join(harness: &Harness, group: &str, topic: &str) -> Self {
            Self::join_as("twin", harness, group, topic)
        }

        fn join_as(name: &str, harness: &Harness, group: &str, topic: &str) -> Self {
            let mut consumer = harness.log.consumer(group).unwrap();
            consumer.subscribe(topic, name).unwrap();
            Self { consumer, owned: BTreeSet::new(), lost: 0, ended: None }
        }

        fn poll(&mut self) {
            if self.ended.is_some() {
                return;
            }
            match self.consumer.poll(Duration::from_millis(10)) {
                Ok(Polled::Assigned(partitions)) => self.owned.extend(partitions),
                Ok(Polled::Revoked { partitions, lost }) => {
                    self.lost += u32::from(lost);
                    self.owned.retain(|partition| !partitions.contains(partition));
                }
                Ok(_) => {}
                Err(error) => self.ended = Some(error.to_string()),
            }
        }
    }

    /// A log by the listener with TLS and SASL, under the properties as `change` leaves them.
    fn secure(patience_s: u64, change: impl FnOnce(String) -> String) -> Result<KafkaLog, LogError> {
        let of = |name| std::env::var(name).expect("`deploy/services.sh` names the listener with TLS");
        let properties = std::fs::read_to_string(of("TALLY_TEST_KAFKA_PROPERTIES")).unwrap();
        let options = KafkaOptions::new(of("TALLY_TEST_KAFKA_SECURE")).with_properties(&change(properties)).unwrap();
        KafkaLog::open(KafkaOptions { patience: Duration::from_secs(patience_s), ..options })
    }

    #[test]
    fn every_kind_of_client_passes_tls_and_sasl() {
        if broker().is_none() {
            return;
        }
        let open = || Harness { log: Arc::new(secure(60, |properties| properties).unwrap()), ..open() };
        groups::a_single_member_gets_everything(&open);
        records::appends_tell_the_last_offsets(&open);
        transactions::offsets_come_back_with_their_metadata(&open);
        transactions::a_takeover_fences_the_former_holder(&open);
    }

    #[test]
    fn who_is_not_let_in_is_told_why() {
        if broker().is_none() {
            return;
        }
        let told =
            |change: fn(String) -> String| secure(3, change).err().map(|error| error.to_string()).unwrap_or_default();
        let password = told(|properties| properties.replace("password=tally", "password=wrong"));
        assert!(password.contains("uthentication"), "{password}");
        assert!(!password.contains("wrong"), "a password is never told: {password}");
        let authority = told(|properties| {
            properties
                .lines()
                .filter(|line| !line.contains("ca.location"))
                .fold(String::new(), |text, line| text + line + "\n")
        });
        assert!(authority.contains("certificate verify failed"), "{authority}");
    }

    /// Another client deletes topics and recreates one with another number of partitions.
    #[test]
    fn topics_that_are_deleted_are_missed_at_once() {
        use rdkafka::ClientConfig;
        use rdkafka::admin::{AdminClient, AdminOptions};
        use rdkafka::client::DefaultClientContext;
        let Some(broker) = broker() else { return };
        let harness = open();
        let spec = |name: &str, partitions| TopicSpec {
            name: harness.name(name),
            partitions,
            cleanup: Cleanup::Delete,
            retention: None,
            retention_bytes: None,
        };
        let topics = [spec("kept", 2), spec("deleted", 3)];
        harness.log.ensure_topics(&topics).unwrap();
        assert_eq!(harness.log.altered_topics(&topics), Ok(vec![]));
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &broker).create().unwrap();
        let deleted = pollster::block_on(admin.delete_topics(&[&topics[1].name], &AdminOptions::new())).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        let is_seen = |found| harness.log.altered_topics(&topics) == Ok(vec![(topics[1].name.clone(), found)]);
        harness.until("the deletion to be seen", || is_seen(None));
        let other = KafkaLog::open(KafkaOptions::new(broker)).unwrap();
        let recreated = [spec("deleted", 1)];
        harness.until("it to be recreated", || other.ensure_topics(&recreated).is_ok());
        harness.until("the other number of partitions to be seen", || is_seen(Some(1)));
    }

    /// See `streams/src/log/kafka/orphans.rs`.
    #[test]
    fn what_a_killed_member_gave_back_finds_an_owner() {
        if broker().is_none() {
            return;
        }
        let harness = open();
        let (topic, group) = (harness.topic("driver", 3), harness.name("group"));
        let mut first = Twin::join_as("first", &harness, &group, &topic);
        harness.until("the first to own everything", || {
            first.poll();
            first.owned.len() == 3
        });
        let mut second = Twin::join_as("second", &harness, &group, &topic);
        harness.until("the first to be asked for some", || {
            second.poll();
            first.poll();
            first.owned.len() < 3
        });
        // Killed before it has given them back and restarted immediately: the former member never reports again.
        std::mem::forget(first);
        let mut first = Twin::join_as("first", &harness, &group, &topic);
        harness.until("all partitions to have an owner", || {
            first.poll();
            second.poll();
            first.owned.len() + second.owned.len() == 3
        });
        assert!(first.owned.is_disjoint(&second.owned));
    }

    #[test]
    fn a_member_whose_name_was_given_away_once_comes_back() {
        if broker().is_none() {
            return;
        }
        let harness = open();
        let (topic, group) = (harness.topic("driver", 3), harness.name("group"));
        let mut member = Twin::join(&harness, &group, &topic);
        harness.until("the first to own everything", || {
            member.poll();
            member.owned.len() == 3
        });
        let mut late = Twin::join(&harness, &group, &topic);
        harness.until("the first to lose its name", || {
            late.poll();
            member.poll();
            member.lost > 0
        });
        assert!(member.owned.is_empty(), "what it owned is told as lost");
        drop(late);
        harness.until("the first to own everything again", || {
            member.poll();
            member.owned.len() == 3
        });
        assert_eq!(member.ended, None);
    }

    /// Has the broker forget a static member, as when its session ends: a LeaveGroup request of version 3.
    fn expel(broker: &str, group: &str, name: &str) {
        fn text(text: &str) -> Vec<u8> {
            [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
        }
        let (kind, version, correlation, members) = (13_i16, 3_i16, 1_i32, 1_i32);
        let header = [&kind.to_be_bytes()[..], &version.to_be_bytes(), &correlation.to_be_bytes(), &text("test")];
        let no_member_id = text("");
        let body = [&text(group)[..], &members.to_be_bytes(), &no_member_id, &text(name)].concat();
        let request = [header.concat(), body].concat();
        let mut connection = TcpStream::connect(broker).unwrap();
        connection.write_all(&[&(request.len() as i32).to_be_bytes()[..], &request].concat()).unwrap();
        let mut length = [0; 4];
        connection.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        connection.read_exact(&mut answer).unwrap();
        // Behind correlation and throttle time.
        assert_eq!(answer[8..10], [0, 0], "the broker has forgotten {name}: {answer:?}");
    }

    /// A member that was stopped, or starved of CPU, during a rebalance: its client knows that it was expelled, but has
    /// not reported that yet, and still has an older event to report.
    #[test]
    fn a_member_that_slept_through_the_end_of_its_session_commits_nothing() {
        let Some(broker) = broker() else { return };
        for has_been_first in [false, true] {
            let harness = open();
            let (topic, group) = (harness.topic("driver", 2), harness.name("group"));
            let own_all = |member: &mut Twin| {
                harness.until("the first to own everything", || {
                    member.poll();
                    member.owned.len() == 2
                });
            };
            let join = |name| Twin::join_as(name, &harness, &group, &topic);
            // The sleeper misses the last notification: that one partition is assigned to it, or revoked.
            let (mut sleeper, mut awake) = if has_been_first {
                let mut sleeper = join("sleeper");
                own_all(&mut sleeper);
                (sleeper, join("awake"))
            } else {
                let mut awake = join("awake");
                own_all(&mut awake);
                (join("sleeper"), awake)
            };
            let before = awake.consumer.group_metadata();
            harness.until("the group to rebalance", || {
                awake.poll();
                awake.consumer.group_metadata() != before
            });
            expel(&broker, &group, "sleeper");
            own_all(&mut awake);
            // Some heartbeats, so that the client learns of it. A shorter wait would only make the test weaker.
            std::thread::sleep(Duration::from_secs(1));
            let at = TopicPartition::new(topic.as_str(), 0);
            let mut producer = harness.log.producer(&harness.name("sleeper")).unwrap();
            let generation_without_it = awake.consumer.group_metadata().generation;
            for tried in 0..5 {
                sleeper.poll();
                let membership = sleeper.consumer.group_metadata();
                if membership.generation > generation_without_it {
                    // It is a member again, that owns nothing yet and knows it: the broker would take any offsets from it.
                    assert!(tried > 0 && sleeper.owned.is_empty(), "{has_been_first}: {tried}, {:?}", sleeper.owned);
                    break;
                }
                let committed = CommittedOffset { offset: 1, metadata: "sleeper".into() };
                let done =
                    producer.send_offsets(&membership, &[(at.clone(), committed)]).and_then(|()| producer.commit());
                assert!(matches!(done, Err(LogError::Aborted(_))), "{has_been_first}: {done:?}");
                producer.abort().unwrap();
            }
            assert_eq!(harness.log.committed(&group, &at), Ok(None));
        }
    }

    #[test]
    fn of_two_processes_with_one_name_one_gives_up() {
        if broker().is_none() {
            return;
        }
        let harness = open();
        let (topic, group) = (harness.topic("driver", 3), harness.name("group"));
        let mut twins = [Twin::join(&harness, &group, &topic), Twin::join(&harness, &group, &topic)];
        harness.until("one of them to give up", || {
            twins.iter_mut().for_each(Twin::poll);
            twins.iter().any(|twin| twin.ended.is_some())
        });
        let ended = twins.iter().find_map(|twin| twin.ended.clone()).unwrap();
        assert!(ended.contains("give each process a state directory of its own"), "{ended}");
        harness.until("the other to own everything", || {
            twins.iter_mut().for_each(Twin::poll);
            twins.iter().any(|twin| twin.ended.is_none() && twin.owned.len() == 3)
        });
    }
}
