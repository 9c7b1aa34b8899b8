//! Totals as answered: every metric of the topology, zero where no event touched it.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::cmp::Ordering;
use std::sync::Arc;
use tally_cache::CachedCounters;
use tally_model::UNIQUES_EXACT_MAX;

/// The metrics of the topology.
pub struct Template {
    /// Ascending.
    metrics: Vec<Arc<str>>,
    /// The metrics that are estimates.
    unique: Vec<Arc<str>>,
}

/// Metric -> value, ascending by metric. A metric that the topology no longer has is included. Nothing is copied until
/// it is written out.
pub struct AllTotals {
    template: Arc<Template>,
    found: Arc<CachedCounters>,
}

impl Template {
    /// Takes the names of all metrics and of those that count unique visitors.
    pub fn new(metrics: &[String], unique: &[String]) -> Arc<Self> {
        let shared = |names: &[String]| {
            let mut names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Arc::new(Self { metrics: shared(metrics), unique: shared(unique) })
    }

    /// The metrics among these counts that are estimates, in their order.
    pub fn estimates<'a>(
        &self,
        counts: impl Iterator<Item = (&'a Arc<str>, i64)>,
    ) -> impl Iterator<Item = &'a Arc<str>> {
        let estimates = counts.filter(|(metric, value)| *value > UNIQUES_EXACT_MAX && self.unique.contains(metric));
        estimates.map(|(metric, _)| metric)
    }

    /// The shared name of a metric, so that a million subjects need it once.
    pub fn name(&self, metric: &str) -> Arc<str> {
        let at = self.metrics.binary_search_by(|name| (**name).cmp(metric));
        at.map_or_else(|_| metric.into(), |at| self.metrics[at].clone())
    }
}

impl AllTotals {
    /// Zeros, overwritten by the values found.
    pub fn new(template: &Arc<Template>, found: Arc<CachedCounters>) -> Self {
        Self { template: template.clone(), found }
    }

    /// The metrics that are estimates, in their order.
    pub fn approximate(&self) -> Vec<Arc<str>> {
        let counts = self.found.counters.iter().map(|(metric, value)| (metric, *value));
        self.template.estimates(counts).cloned().collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i64)> {
        let mut zeros = self.template.metrics.iter().peekable();
        let mut found = self.found.counters.iter().peekable();
        std::iter::from_fn(move || {
            let order = match (zeros.peek(), found.peek()) {
                // Most names are shared, so they seldom have to be compared.
                (Some(zero), Some((metric, _))) if Arc::ptr_eq(zero, metric) => Ordering::Equal,
                (Some(zero), Some((metric, _))) => zero.cmp(&metric),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            if order == Ordering::Less {
                return zeros.next().map(|metric| (metric, 0));
            }
            if order == Ordering::Equal {
                zeros.next();
            }
            found.next().map(|(metric, value)| (metric, *value))
        })
    }
}

impl Serialize for AllTotals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (metric, value) in self.iter() {
            map.serialize_entry(&**metric, &value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(metrics: &[&str], found: &[(&str, i64)]) -> (String, String) {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let template = Template::new(&names(metrics), &names(&["visitors", "readers"]));
        let counters = found.iter().map(|(metric, value)| (template.name(metric), *value)).collect();
        let totals = AllTotals::new(&template, Arc::new(CachedCounters { counters, version: 1 }));
        (serde_json::to_string(&totals).unwrap(), serde_json::to_string(&totals.approximate()).unwrap())
    }

    #[test]
    fn zeros_are_filled_and_estimates_are_named() {
        let metrics = ["views", "likes", "visitors"];
        for (found, totals, approximate) in [
            (&[][..], r#"{"likes":0,"views":0,"visitors":0}"#, "[]"),
            (&[("views", 2)], r#"{"likes":0,"views":2,"visitors":0}"#, "[]"),
            (
                &[("gone", 1), ("likes", 300), ("readers", 256), ("visitors", 257)],
                r#"{"gone":1,"likes":300,"readers":256,"views":0,"visitors":257}"#,
                r#"["visitors"]"#,
            ),
            (&[("a", 1), ("zz", 2)], r#"{"a":1,"likes":0,"views":0,"visitors":0,"zz":2}"#, "[]"),
        ] {
            assert_eq!(answered(&metrics, found), (totals.to_owned(), approximate.to_owned()));
        }
        assert_eq!(answered(&[], &[("likes", 1)]).0, r#"{"likes":1}"#);
    }
}
