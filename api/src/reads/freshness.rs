//! Of when an answer is.

use crate::config::OutputTopic;
use crate::database::DatabaseProgress;
use crate::reads::roots::{applied, is_applied};
use crate::routes::after::After;
use crate::routes::reply::Keep;
use crate::state::Api;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::format_ms;
use utoipa::ToSchema;

/// Of when an answer is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Freshness {
    /// Everything that the log had taken until then is contained (RFC 3339). 1970 where nothing was read from it yet.
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
    /// Of what is as of a task's clock, in milliseconds since 1970.
    pub(crate) fn new(clock_ms: i64) -> Self {
        Self { as_of: clock_ms.max(0), after: None, stale: false }
    }

    /// In milliseconds since 1970.
    pub(crate) fn as_of_ms(&self) -> i64 {
        self.as_of
    }

    /// With whether what a receipt covers is contained, where one was given.
    pub(crate) fn judged(self, is_covered: Option<bool>) -> Self {
        let after = is_covered.map(|is_covered| if is_covered { "applied" } else { "pending" });
        Self { after, ..self }
    }

    /// Of what was last known, because no store answered.
    pub(crate) fn of_last_known(self) -> Self {
        Self { stale: true, ..self }
    }

    /// Of both together.
    pub(crate) fn least(self, other: Self) -> Self {
        let pending = [self.after, other.after].into_iter().flatten().min_by_key(|state| *state != "pending");
        Self { as_of: self.as_of.min(other.as_of), after: pending, stale: self.stale || other.stale }
    }

    /// How long an answer of this freshness may be kept, if not for another reason: what somebody waited for is theirs
    /// alone, and what was last known is better asked for again.
    pub(crate) fn keep(&self, otherwise: Keep) -> Keep {
        if self.after.is_some() || self.stale { Keep::Never } else { otherwise }
    }
}

/// Of when the rows are that are read afterwards from the database, once what a receipt covers is there or its time is
/// over.
pub async fn freshness(api: &Arc<Api>, topic: &OutputTopic, after: Option<&After>) -> Result<Freshness, ApiProblem> {
    let is_covered = match after {
        None => None,
        Some(After { receipt, deadline }) => {
            let covered = |progress: &DatabaseProgress| is_applied(topic, progress, receipt);
            Some(api.database.wait(*deadline, covered).await?)
        }
    };
    let progress = api.database.progress().await?;
    let clocks = (0..api.config.input_partitions)
        .map(|partition| applied(topic, partition, |p| progress.roots(&topic.name, p)).map_or(0, |root| root.clock_ms));
    Ok(Freshness::new(clocks.min().unwrap_or(0)).judged(is_covered))
}
