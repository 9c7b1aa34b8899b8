//! The log while the wall clock is in doubt.

use crate::*;
use tally_streams::log::{Now, WallClock, WallLimits};

const HOUR: i64 = 3_600_000;

struct Hands {
    wall: Arc<AtomicI64>,
    monotonic: Arc<AtomicI64>,
}

impl Hands {
    fn judged(&self) -> Arc<WallClock> {
        let (wall, monotonic) = (self.wall.clone(), self.monotonic.clone());
        let time = move || {
            let (wall_ms, monotonic_ms) = (wall.load(Ordering::SeqCst), monotonic.load(Ordering::SeqCst));
            Now { wall_ms, monotonic_ms }
        };
        Arc::new(WallClock::new(Arc::new(time), WallLimits::default()))
    }

    fn open(&self, dir: &Path) -> (EmbeddedLog, Arc<WallClock>) {
        let wall = self.judged();
        let options = EmbeddedOptions { wall: Some(wall.clone()), ..EmbeddedOptions::default() };
        (EmbeddedLog::open(dir, options).unwrap(), wall)
    }
}

fn times(log: &EmbeddedLog) -> Vec<i64> {
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&TopicPartition::new("a", 0), 0).unwrap();
    let mut times = Vec::new();
    while let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() {
        times.extend(records.map(|record| record.unwrap().append_time_ms));
    }
    times
}

/// The clock is 26 h ahead for ten seconds: no record gets such a time, and what comes from outside is refused.
#[test]
fn a_bad_reading_never_becomes_the_time_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands { wall: Arc::new(AtomicI64::new(100 * HOUR)), monotonic: Arc::default() };
    let pass = |ms| {
        hands.wall.fetch_add(ms, Ordering::SeqCst);
        hands.monotonic.fetch_add(ms, Ordering::SeqCst);
    };
    let (log, _) = hands.open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let mut producer = log.producer("id").unwrap();
    let mut transact = |log: &EmbeddedLog| {
        let record = ProducerRecord { topic: "a", partition: 0, key: None, value: Some(b"inside"), headers: &[] };
        producer.send(record).unwrap();
        producer.commit().unwrap();
        *times(log).last().unwrap()
    };
    append(&log, "a", &["0"]).unwrap();
    for by_ms in [26 * HOUR, -HOUR] {
        pass(1_000);
        hands.wall.fetch_add(by_ms, Ordering::SeqCst);
        let refused = append(&log, "a", &["refused"]).unwrap_err();
        assert!(matches!(&refused, LogError::Unavailable(why) if why.contains("jumped")), "{refused}");
        pass(10_000);
        let inside_ms = transact(&log);
        hands.wall.fetch_add(-by_ms, Ordering::SeqCst);
        assert_eq!(inside_ms, hands.wall.load(Ordering::SeqCst), "what the clock should have shown");
        append(&log, "a", &["taken"]).unwrap();
    }
    assert_eq!(times(&log), [0, 11, 11, 22, 22].map(|seconds| 100 * HOUR + seconds * 1_000));
}

#[test]
fn a_clock_behind_the_log_at_the_start_takes_nothing_until_it_has_caught_up_or_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands { wall: Arc::new(AtomicI64::new(100 * HOUR)), monotonic: Arc::default() };
    {
        let (log, _) = hands.open(dir.path());
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        append(&log, "a", &["0"]).unwrap();
    }
    hands.wall.store(74 * HOUR, Ordering::SeqCst);
    {
        let (log, _) = hands.open(dir.path());
        let refused = append(&log, "a", &["refused"]).unwrap_err();
        assert!(matches!(&refused, LogError::Unavailable(why) if why.contains("behind")), "{refused}");
    }
    hands.wall.store(150 * HOUR, Ordering::SeqCst);
    {
        let (log, _) = hands.open(dir.path());
        append(&log, "a", &["1"]).unwrap();
    }
    hands.wall.store(74 * HOUR, Ordering::SeqCst);
    let (log, wall) = hands.open(dir.path());
    wall.set_log_time(74 * HOUR);
    append(&log, "a", &["2"]).unwrap();
    assert_eq!(times(&log), [100, 150, 74].map(|hours| hours * HOUR));
}
