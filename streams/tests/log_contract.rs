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
