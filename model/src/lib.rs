//! The data model of tally: events, changes, counters, rankings, reactions, verdicts, receipts and progress marks,
//! their wire formats and their limits. No I/O, no clock; all untrusted input is checked here, by one set of rules for
//! the ingest API and for other producers.

mod address;
mod change;
mod containment;
mod contribution;
mod counters;
mod dead_letter;
mod decimal;
mod declaration;
mod event;
mod feature;
mod fields;
mod hex;
mod ids;
mod json;
mod metric_value;
mod moment;
mod output;
mod partial;
mod problem;
mod progress;
mod properties;
mod quantile;
mod ranking;
mod reaction;
mod read_token;
mod receipt;
mod roots;
mod scan;
mod sequence;
mod time;
mod top;
mod verdict;
mod window;

pub use address::{canonical_ip, source_of};
pub use change::{
    Change, ChangeBody, ChangesEncoder, Delta, Minute, SubjectChanges, Visitors, WireError, decode_changes,
    grouped_metric,
};
pub use containment::{Containment, TRUST_MS};
pub use contribution::{
    Contribution, ContributionsEncoder, SessionRule, Slot, decode_contributions, holds_contributions,
};
pub use counters::{CounterWindow, Counters, UNIQUES_EXACT_MAX, WindowFieldsError, window_of};
pub use dead_letter::DeadLetter;
pub use decimal::{Decimal, SCALE_MAX};
pub use declaration::{ANONYMOUS_PREFIX, DeclarationError, EventDeclaration, PropertyKind, PropertyType};
pub use event::{Event, MAX_AHEAD_MS, Scalar};
pub use feature::MissingFeature;
pub use fields::{DURATION_MS_MAX, EventError, EventFields, USER_AGENT_BYTES_MAX, UnknownFields};
pub use hex::{hex, unhex};
pub use ids::{
    ACTOR_ID_BYTES_MAX, ACTOR_ID_PATTERN, EVENT_ID_BYTES_MAX, EVENT_ID_PATTERN, SUBJECT_ID_BYTES_MAX,
    SUBJECT_ID_PATTERN, check_actor_id, check_event_id, check_event_type, check_subject_id, check_subject_kind,
    subject_kind,
};
pub use json::{Object, from_object};
pub use metric_value::{Estimate, MetricValue, MetricValueError, TEXT_BYTES_MAX, ValueType};
pub use moment::OCCURRED_AT_MS;
pub use output::{OutputType, OutputValue};
pub use partial::{Datum, Partial, Picked};
pub use problem::Problem;
pub use progress::{OutputCommit, PROGRESS_HEADER, PROGRESS_KEY_PREFIX, ProgressMark, RootPosition, TaskProgress};
pub use properties::{PROPERTIES_BYTES_MAX, PROPERTIES_MAX};
pub use quantile::{Buckets, Millionths};
pub use ranking::{Ranked, Ranking};
pub use reaction::Reaction;
pub use read_token::ReadToken;
pub use receipt::{Receipt, ReceiptError, ReceiptKey};
pub use roots::Roots;
pub use sequence::{MAC_HEADER, SEQ_HEADER, SequenceError, SequenceKey};
pub use time::{TIME_PATTERN, TIMES_IN_SECONDS, format_ms, looks_like_seconds, parse_ms};
pub use top::{PartitionTop, decode_tops, encode_tops, holds_tops};
pub use verdict::{Verdict, VerdictKind};
pub use window::{WindowSpec, WindowSpecError};

/// Joins the parts of a multi-part key by NUL.
pub fn join_key(parts: &[&str]) -> Vec<u8> {
    parts.join("\0").into_bytes()
}

/// The name of the topic that every node writes its verdicts to.
pub const VERDICTS_TOPIC: &str = "verdicts";

/// The name of the record header that carries the 16 random bytes of a request to the ingest API.
pub const REQUEST_HEADER: &str = "b";
