//! Totals as answered: every metric of the topology, with the value of no events where there were none.

use crate::config::Metric;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::cmp::Ordering;
use std::sync::Arc;
use tally_cache::CachedCounters;
use tally_model::{Decimal, Estimate, MetricValue, ValueType};

/// The metrics of the topology.
pub struct Template {
    /// Ascending by name.
    metrics: Vec<Known>,
    /// Those of them that may be estimates, and their errors.
    estimates: Vec<(Arc<str>, Estimate, MetricValue)>,
}

/// A metric of the topology.
struct Known {
    name: Arc<str>,
    of_nothing: MetricValue,
    totals: bool,
    value_type: ValueType,
}

/// Metric -> value, ascending by metric. A metric that the topology no longer has is included. Nothing is copied until
/// it is written out.
pub struct AllTotals {
    template: Arc<Template>,
    found: Arc<CachedCounters>,
}

/// Metric -> relative error, of values that are estimates.
#[derive(Default)]
pub struct RelativeErrors(Vec<(Arc<str>, MetricValue)>);

impl Template {
    /// Takes every metric.
    pub fn new(metrics: &[Metric]) -> Arc<Self> {
        let known = |metric: &Metric| Known {
            name: metric.name.as_str().into(),
            of_nothing: metric.of_nothing.clone(),
            totals: metric.totals,
            value_type: metric.value_type,
        };
        let estimate = |metric: &Metric| {
            let estimate = metric.estimate?;
            Some((metric.name.as_str().into(), estimate, relative_error(estimate.error_ppm)))
        };
        let estimates = metrics.iter().filter_map(estimate).collect();
        let mut metrics: Vec<_> = metrics.iter().map(known).collect();
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics.dedup_by(|a, b| a.name == b.name);
        Arc::new(Self { metrics, estimates })
    }

    fn find(&self, metric: &str) -> Option<&Known> {
        let at = self.metrics.binary_search_by(|known| (*known.name).cmp(metric)).ok()?;
        Some(&self.metrics[at])
    }

    /// The metrics among these values that are estimates, in their order, with their errors.
    pub fn estimates<'a>(
        &self,
        values: impl Iterator<Item = (&'a Arc<str>, &'a MetricValue)>,
    ) -> (Vec<Arc<str>>, RelativeErrors) {
        let (mut names, mut errors) = (Vec::new(), Vec::new());
        for (metric, value) in values {
            let known = self.estimates.iter().find(|(name, ..)| name == metric);
            if let Some((_, _, error)) = known.filter(|(_, estimate, _)| estimate.covers(value)) {
                names.push(metric.clone());
                errors.push((metric.clone(), error.clone()));
            }
        }
        (names, RelativeErrors(errors))
    }

    /// The shared name of a metric, so that a million subjects need it once.
    pub fn name(&self, metric: &str) -> Arc<str> {
        self.find(metric).map_or_else(|| metric.into(), |known| known.name.clone())
    }

    /// A value as the metric's type writes it.
    pub fn typed(&self, metric: &str, value: MetricValue) -> MetricValue {
        match (&value, self.find(metric)) {
            (MetricValue::Integer(_) | MetricValue::Decimal(_), Some(known)) => value.of_type(known.value_type),
            _ => value,
        }
    }

    /// The shared name of a metric, and a value as its type writes it.
    pub fn named(&self, metric: &str, value: MetricValue) -> (Arc<str>, MetricValue) {
        (self.name(metric), self.typed(metric, value))
    }

    /// The value of a metric without any event.
    pub fn of_nothing(&self, metric: &str) -> MetricValue {
        self.find(metric).map_or(MetricValue::Null, |known| known.of_nothing.clone())
    }
}

/// A number from millionths, without zeros at the end.
fn relative_error(ppm: u32) -> MetricValue {
    let (mut units, mut scale) = (i128::from(ppm), 6);
    while scale > 0 && units % 10 == 0 {
        (units, scale) = (units / 10, scale - 1);
    }
    Decimal::new(units, scale).map_or(MetricValue::Null, MetricValue::from)
}

impl AllTotals {
    /// The values of no events, of the metrics that are computed for all time, overwritten by the values found.
    pub fn new(template: &Arc<Template>, found: Arc<CachedCounters>) -> Self {
        Self { template: template.clone(), found }
    }

    /// The metrics that are estimates, in their order, with their errors.
    pub fn estimates(&self) -> (Vec<Arc<str>>, RelativeErrors) {
        self.template.estimates(self.found.counters.iter().map(|(metric, value)| (metric, value)))
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &MetricValue)> {
        let mut untouched = self.template.metrics.iter().filter(|known| known.totals).peekable();
        let mut found = self.found.counters.iter().peekable();
        std::iter::from_fn(move || {
            let order = match (untouched.peek(), found.peek()) {
                // Most names are shared, so they seldom have to be compared.
                (Some(known), Some((metric, _))) if Arc::ptr_eq(&known.name, metric) => Ordering::Equal,
                (Some(known), Some((metric, _))) => known.name.cmp(metric),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            if order == Ordering::Less {
                return untouched.next().map(|known| (&known.name, &known.of_nothing));
            }
            if order == Ordering::Equal {
                untouched.next();
            }
            found.next().map(|(metric, value)| (metric, value))
        })
    }
}

impl RelativeErrors {
    /// Whether no value is an estimate.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for RelativeErrors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(metric, error)| (metric, error)))
    }
}

impl Serialize for AllTotals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (metric, value) in self.iter() {
            map.serialize_entry(&**metric, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value_type: ValueType, of_nothing: MetricValue, estimate: Option<Estimate>) -> Metric {
        Metric { name: name.to_owned(), value_type, of_nothing, totals: true, estimate }
    }

    fn metrics() -> Vec<Metric> {
        let distinct = |error_ppm| Some(Estimate { exact_max: Some(256), error_ppm });
        let quantile = Some(Estimate { exact_max: None, error_ppm: 10_000 });
        vec![
            metric("views", ValueType::Integer, 0.into(), None),
            metric("likes", ValueType::Integer, 0.into(), None),
            metric("visitors", ValueType::Integer, 0.into(), distinct(8_125)),
            metric("readers", ValueType::Integer, 0.into(), distinct(8_125)),
            metric("dwell.p95", ValueType::Decimal { scale: 2 }, MetricValue::Null, quantile),
            // It has windows alone.
            Metric { totals: false, ..metric("sessions.n", ValueType::Integer, 0.into(), None) },
        ]
    }

    fn answered(metrics: &[Metric], found: &[(&str, MetricValue)]) -> [String; 3] {
        let template = Template::new(metrics);
        let counters = found.iter().map(|(metric, value)| (template.name(metric), value.clone())).collect();
        let totals = AllTotals::new(&template, Arc::new(CachedCounters { counters, version: 1 }));
        let (approximate, errors) = totals.estimates();
        let json =
            [serde_json::to_string(&totals), serde_json::to_string(&approximate), serde_json::to_string(&errors)];
        json.map(Result::unwrap)
    }

    #[test]
    fn the_values_of_nothing_are_filled_in_and_estimates_are_named() {
        let decimal = |text| MetricValue::from(Decimal::parse(text).unwrap());
        for (found, totals, approximate, errors) in [
            (&[][..], r#"{"dwell.p95":null,"likes":0,"readers":0,"views":0,"visitors":0}"#, "[]", "{}"),
            (&[("views", 2.into())], r#"{"dwell.p95":null,"likes":0,"readers":0,"views":2,"visitors":0}"#, "[]", "{}"),
            (
                &[("gone", 1.into()), ("likes", 300.into()), ("readers", 256.into()), ("visitors", 257.into())],
                r#"{"dwell.p95":null,"gone":1,"likes":300,"readers":256,"views":0,"visitors":257}"#,
                r#"["visitors"]"#,
                r#"{"visitors":0.008125}"#,
            ),
            (
                &[("a", MetricValue::text("\"")), ("dwell.p95", decimal("3.50")), ("zz", 2.into())],
                r#"{"a":"\"","dwell.p95":3.50,"likes":0,"readers":0,"views":0,"visitors":0,"zz":2}"#,
                r#"["dwell.p95"]"#,
                r#"{"dwell.p95":0.01}"#,
            ),
        ] {
            assert_eq!(answered(&metrics(), found), [totals, approximate, errors]);
        }
        assert_eq!(answered(&[], &[("likes", 1.into())])[0], r#"{"likes":1}"#);
    }

    #[test]
    fn a_value_has_the_digits_of_its_type_whatever_a_store_keeps() {
        let template = Template::new(&metrics());
        let decimal = |text| MetricValue::from(Decimal::parse(text).unwrap());
        assert_eq!(template.typed("dwell.p95", decimal("3.5")), decimal("3.50"));
        assert_eq!(template.typed("dwell.p95", 3.into()), decimal("3.00"));
        assert_eq!(template.typed("gone", decimal("3.5")), decimal("3.5"));
    }
}
