//! Totals as answered: every metric of the topology, zero where nobody touched it.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::sync::Arc;

/// A unique count is exact up to this.
pub const EXACT_MAX: i64 = 256;

/// The metrics of the topology.
pub struct Template {
    zeros: Vec<(Arc<str>, i64)>,
    unique: Vec<Arc<str>>,
}

/// Metric -> value, ascending by metric.
#[derive(Clone, Debug, PartialEq)]
pub struct AllTotals(Vec<(Arc<str>, i64)>);

impl Template {
    /// Takes the names of all metrics and of those that count unique visitors.
    pub fn new(metrics: &[String], unique: &[String]) -> Self {
        let shared = |names: &[String]| {
            let mut names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        Self { zeros: shared(metrics).into_iter().map(|name| (name, 0)).collect(), unique: shared(unique) }
    }

    /// Zeros, and over them what was found. A metric that the topology no longer has is answered as well.
    pub fn fill(&self, found: Vec<(Arc<str>, i64)>) -> AllTotals {
        let mut totals = self.zeros.clone();
        for (metric, value) in found {
            match totals.binary_search_by(|(name, _)| (**name).cmp(&metric)) {
                Ok(at) => totals[at].1 = value,
                Err(at) => totals.insert(at, (metric, value)),
            }
        }
        AllTotals(totals)
    }

    /// Those among the totals that are estimates.
    pub fn approximate(&self, totals: &AllTotals) -> Vec<Arc<str>> {
        let estimates = totals.0.iter().filter(|(name, value)| *value > EXACT_MAX && self.unique.contains(name));
        estimates.map(|(name, _)| name.clone()).collect()
    }
}

impl Serialize for AllTotals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (metric, value) in &self.0 {
            map.serialize_entry(&**metric, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_filled_and_estimates_are_named() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let template = Template::new(&names(&["views", "likes", "visitors"]), &names(&["visitors", "readers"]));
        let found = vec![("visitors".into(), 257), ("likes".into(), 300), ("gone".into(), 1), ("readers".into(), 256)];
        let totals = template.fill(found);
        let json = serde_json::to_string(&totals).unwrap();
        assert_eq!(json, r#"{"gone":1,"likes":300,"readers":256,"views":0,"visitors":257}"#);
        assert_eq!(template.approximate(&totals), ["visitors".into()]);
    }
}
