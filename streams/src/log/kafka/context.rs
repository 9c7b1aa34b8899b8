//! Reports of librdkafka outside of calls. They are logged at DEBUG, since calls return their own errors.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The client reports the same error again only after half a minute.
const HOLDS_FOR: Duration = Duration::from_secs(45);

/// For clients that need nothing else.
#[derive(Default)]
pub(super) struct Quiet {
    /// Why a broker could not be reached, as librdkafka reported last, and when.
    last_error: Mutex<Option<(Code, String, Instant)>>,
}

impl Quiet {
    /// The last error, if it still holds.
    pub fn last_error(&self) -> Option<(Code, String)> {
        let error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.filter(|(_, _, at)| at.elapsed() < HOLDS_FOR).map(|(code, reason, _)| (code, reason))
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        report(&error, reason);
        // "All brokers down" adds nothing to the reports about each.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != Code::AllBrokersDown) {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((code, reason.to_owned(), Instant::now()));
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    tracing::debug!(?level, facility, "{message}");
}

pub(super) fn report(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, "{reason}");
}
