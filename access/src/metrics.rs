//! Metrics of authentication and limits.

use crate::buckets::Rule;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// The metrics of this crate, registered once per process.
#[derive(Clone)]
pub struct AccessMetrics {
    pub(crate) refused: IntCounterVec,
    pub(crate) limited: IntCounterVec,
    pub(crate) shared_up: IntGauge,
    reloads: IntCounterVec,
}

impl AccessMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let refused = Opts::new(
            "tally_access_refused_total",
            "Requests refused by authentication, authorization or the request limit of a key.",
        );
        let limited = Opts::new(
            "tally_access_limited_total",
            "Requests (rule requests) and events (other rules) above a limit per minute.",
        );
        let reloads = Opts::new(
            "tally_access_reloads_total",
            "Files of keys and JWKS that were read again after a change; refused if invalid.",
        );
        let metrics = Self {
            refused: IntCounterVec::new(refused, &["reason"])?,
            limited: IntCounterVec::new(limited, &["rule"])?,
            shared_up: IntGauge::new("tally_access_shared_limits_up", "1 while rate limits are shared through Redis.")?,
            reloads: IntCounterVec::new(reloads, &["outcome"])?,
        };
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.limited.clone()))?;
        registry.register(Box::new(metrics.shared_up.clone()))?;
        registry.register(Box::new(metrics.reloads.clone()))?;
        Ok(metrics)
    }

    /// A file of keys was read again.
    pub fn reloaded(&self, well: bool) {
        self.reloads.with_label_values(&[if well { "taken" } else { "refused" }]).inc();
    }

    pub(crate) fn over(&self, rule: Rule) {
        self.limited.with_label_values(&[rule.as_str()]).inc();
    }
}
