//! The ingest API: events are received, checked one by one, and acknowledged once the log has them durably.
//!
//! [`IngestService`] takes batches, independent of their transport; [`http`] is its adapter for HTTP, `grpc` that for
//! gRPC. The path of a batch, in order: `admission` (rejected rather than kept waiting), `elements` (the bytes split into
//! events), `intake` (each event checked, completed and written as a record), the rate limits, the log, the receipt.

mod admission;
mod anonymous;
mod answer;
mod batch;
mod caller;
mod cloud_event;
mod config;
mod elements;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
mod intake;
mod invalid;
mod metrics;
mod random;
mod read_token;
mod refusal;
mod service;
mod taken;
mod types;

pub use admission::Place;
pub use answer::{Accepted, Rejected};
pub use batch::{Batch, Format};
pub use caller::Caller;
pub use config::{ConfigError, IngestConfig};
pub use refusal::Refusal;
pub use service::{IngestClock, IngestService};
pub use types::EventTypes;

/// Events in one request.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes of one request's body.
pub const BODY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Adapters have a folder each; the files beside them are the core.
    #[test]
    fn the_core_knows_no_protocol() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path());
        let core: Vec<_> = files.filter(|path| path.is_file() && !path.ends_with("lib.rs")).collect();
        assert!(core.len() > 10, "{core:?}");
        for path in core {
            let text = fs::read_to_string(&path).unwrap();
            let named = ["axum", "hyper", "tally_http", "HeaderMap"].into_iter().find(|word| text.contains(word));
            assert_eq!(named, None, "{}", path.display());
        }
    }
}
