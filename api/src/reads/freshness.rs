//! The time of an answer's content.

use super::after::After;
use super::roots::{clock_ms, covers};
use super::store::{Answer, Source};
use serde::Serialize;
use tally_model::format_ms;
use utoipa::ToSchema;

/// The time of an answer's content, and whether it contains the events of a receipt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Freshness {
    /// The response contains everything that the log had accepted by this time (RFC 3339). 1970 if nothing was read yet.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = String)]
    as_of: i64,
    /// Whether what the receipt covers is contained: `applied`, or `pending` where it did not come in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    after: Option<&'static str>,
    /// True where no store answered and this is what was last known; otherwise absent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    stale: bool,
}

fn as_time<S: serde::Serializer>(time_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_ms(*time_ms))
}

impl Freshness {
    /// The freshness of content as of a task's clock, in milliseconds since 1970.
    pub(crate) fn new(clock_ms: i64) -> Self {
        Self { as_of: clock_ms.max(0), after: None, stale: false }
    }

    /// The freshness of several answers together, at least one; with `after`, also whether they contain the events of
    /// its receipt.
    pub(crate) fn of<T>(answers: &[Answer<T>], after: Option<&After>) -> Self {
        let oldest_ms = answers.iter().map(|answer| clock_ms(&answer.stored.roots).unwrap_or(0)).min();
        let covered = |after: &After| answers.iter().all(|answer| covers(&answer.stored.roots, &after.receipt));
        let stale = answers.iter().any(|answer| answer.source == Source::LastKnown);
        Self { stale, ..Self::new(oldest_ms.unwrap_or(0)).judged(after.map(covered)) }
    }

    /// In milliseconds since 1970.
    pub(crate) fn as_of_ms(&self) -> i64 {
        self.as_of
    }

    /// Adds whether the events of a receipt are contained, if there is one.
    pub(crate) fn judged(self, is_covered: Option<bool>) -> Self {
        let after = is_covered.map(|is_covered| if is_covered { "applied" } else { "pending" });
        Self { after, ..self }
    }

    /// The freshness of the last known state, because no store answered.
    pub(crate) fn of_last_known(self) -> Self {
        Self { stale: true, ..self }
    }

    /// The freshness of both together.
    pub(crate) fn least(self, other: Self) -> Self {
        let pending = [self.after, other.after].into_iter().flatten().min_by_key(|state| *state != "pending");
        Self { as_of: self.as_of.min(other.as_of), after: pending, stale: self.stale || other.stale }
    }

    /// Whether it belongs to one request or one moment: a reader waited for it, or no store answered.
    pub(crate) fn is_singular(&self) -> bool {
        self.after.is_some() || self.stale
    }
}
