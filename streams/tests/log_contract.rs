//! Every engine keeps the log's contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tally_streams::log::contract::Harness;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{Clock, Log};

fn harness(open: impl FnOnce(Clock) -> Arc<dyn Log>, keep: impl std::any::Any) -> Harness {
    let time = Arc::new(AtomicI64::new(1_000_000));
    let clock = time.clone();
    Harness {
        log: open(Arc::new(move || clock.load(Ordering::SeqCst))),
        set_clock: Some(Box::new(move |ms| time.store(ms, Ordering::SeqCst))),
        prefix: String::new(),
        patience: Duration::from_secs(20),
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

    /// The broker to test against.
    fn broker() -> Option<String> {
        match std::env::var("TALLY_TEST_KAFKA") {
            Ok(address) => Some(address),
            Err(_) if std::env::var("TALLY_TEST_SERVICES").is_ok_and(|what| what == "required") => {
                panic!("TALLY_TEST_KAFKA names no broker: run the tests with `make test`")
            }
            Err(_) => {
                eprintln!("skipped: Kafka (set TALLY_TEST_KAFKA=host:port, or run `make test`)");
                None
            }
        }
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
}
