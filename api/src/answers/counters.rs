//! Totals of subjects as they are answered.

use super::ReadError;
use super::metric_json::MetricJson;
use super::viewer::{Viewer, viewer};
use crate::reads::Reads;
use crate::reads::after::After;
use crate::reads::freshness::Freshness;
use crate::reads::store::Totals;
use crate::reads::totals::{AllTotals, RelativeErrors, Template};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The totals of one subject.
#[derive(Serialize, ToSchema)]
pub struct SubjectCounters {
    /// The subject.
    pub subject_id: String,
    /// Every metric of the topology. Without events: 0, or null for minima, maxima, averages, quantiles, first and last
    /// values.
    #[schema(value_type = HashMap<String, MetricJson>)]
    pub counters: AllTotals,
    /// The metrics that are estimates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    pub approximate: Vec<Arc<str>>,
    /// Their relative errors: 0.01 is 1 %. The standard error of a distinct count, the largest error of a quantile.
    #[serde(skip_serializing_if = "RelativeErrors::is_empty")]
    #[schema(value_type = HashMap<String, f64>, required = false)]
    pub relative_errors: RelativeErrors,
    /// With `actor_id`: the toggles of that actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub viewer: Option<Viewer>,
}

/// The totals of one subject and their freshness.
#[derive(Serialize, ToSchema)]
pub struct SubjectAnswer {
    #[serde(flatten)]
    subject: SubjectCounters,
    #[serde(flatten)]
    freshness: Freshness,
}

/// The totals of some subjects, at least one, in the order requested; with an actor, what that actor has switched
/// on.
pub async fn items(
    reads: &Reads,
    ids: &[&str],
    actor_id: Option<&str>,
    after: Option<&After>,
) -> Result<(Vec<SubjectCounters>, Freshness), ReadError> {
    let of_viewer = match actor_id.zip(reads.config.switched_topic()) {
        None => None,
        // Both parts of the answer have what the receipt covers.
        Some((actor_id, topic)) => {
            let freshness = reads.database_freshness(topic, after).await?;
            Some((viewer(reads, actor_id, ids).await?, freshness))
        }
    };
    let (totals, mut freshness) = reads.totals(ids, after).await?;
    let item = |(id, totals): (&&str, Totals)| SubjectCounters::new(&reads.template, (*id).to_owned(), totals);
    let mut items: Vec<_> = ids.iter().zip(totals).map(item).collect();
    if let Some((viewers, of_viewer)) = of_viewer {
        freshness = freshness.least(of_viewer);
        for (item, viewer) in items.iter_mut().zip(viewers) {
            item.viewer = Some(viewer);
        }
    }
    Ok((items, freshness))
}

impl SubjectAnswer {
    pub fn new(template: &Arc<Template>, subject_id: String, totals: Totals, freshness: Freshness) -> Self {
        Self { subject: SubjectCounters::new(template, subject_id, totals), freshness }
    }
}

impl SubjectCounters {
    fn new(template: &Arc<Template>, subject_id: String, totals: Totals) -> Self {
        let counters = AllTotals::new(template, totals);
        let (approximate, relative_errors) = counters.estimates();
        Self { subject_id, counters, approximate, relative_errors, viewer: None }
    }
}
