//! What librdkafka tells besides answers: it goes to the trace, since calls report what matters to them.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::{Mutex, PoisonError};

/// For clients that need nothing else.
#[derive(Default)]
pub(super) struct Quiet {
    /// Why a broker could not be reached, as told last.
    heard: Mutex<Option<(Code, String)>>,
}

impl Quiet {
    /// What was told since the last call.
    pub fn heard(&self) -> Option<(Code, String)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        report(&error, reason);
        // That all brokers are down follows from what was told of each.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != Code::AllBrokersDown) {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
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
