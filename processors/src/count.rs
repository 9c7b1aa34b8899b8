//! `type: count`: every event of a type counts one, for all time and in windows.

use crate::expression::{Expression, FIELDS};
use crate::item::{Actions, Item};
use crate::metric::{MetricKind, MetricSpec};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;
use tally_model::{Change, ChangeBody, VerdictKind, check_event_type};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, ConfigDuration, ParamError, Params, StoreSpec};

/// Windows are whole minutes, at most 31 days.
const WINDOW_MS_MAX: i64 = 31 * 86_400_000;

/// The parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountParams {
    /// The type of event that counts.
    pub event: String,
    /// CEL over the event's fields: only events for which it is true count.
    #[serde(default, rename = "where")]
    pub condition: Option<String>,
    /// Lengths of fixed windows to count in besides all time: whole minutes, at most 31d.
    #[serde(default)]
    pub windows: Vec<ConfigDuration>,
}

/// A checked `count` node.
pub struct Count {
    node: String,
    event: String,
    condition: Option<Expression>,
    windows_ms: Vec<i64>,
}

/// For the registry.
pub fn parse(node: &str, params: &Params) -> Result<Box<dyn Blueprint<Actions>>, Vec<ParamError>> {
    let CountParams { event, condition, windows } = params.parse()?;
    let mut errors = Vec::new();
    if let Err(rule) = check_event_type(&event) {
        errors.push(ParamError::new("event", rule));
    }
    let condition = condition.map(|source| Expression::compile(&source, FIELDS)).transpose();
    let condition = condition.unwrap_or_else(|e| {
        errors.push(ParamError::new("where", e));
        None
    });
    let mut windows_ms: Vec<i64> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        let window_ms = i64::try_from(window.0.as_millis()).unwrap_or(i64::MAX);
        if window_ms % 60_000 != 0 || !(60_000..=WINDOW_MS_MAX).contains(&window_ms) {
            errors.push(ParamError::new(format!("windows[{i}]"), "must be whole minutes, from 1m to 31d"));
        } else if windows_ms.contains(&window_ms) {
            errors.push(ParamError::new(format!("windows[{i}]"), "is named twice"));
        }
        windows_ms.push(window_ms);
    }
    match errors.is_empty() {
        true => Ok(Box::new(Count { node: node.to_owned(), event, condition, windows_ms })),
        false => Err(errors),
    }
}

impl Count {
    pub(crate) fn metric(&self) -> MetricSpec {
        MetricSpec { name: self.node.clone(), kind: MetricKind::Sum, windows_ms: self.windows_ms.clone() }
    }

    pub(crate) fn event_type(&self) -> String {
        self.event.clone()
    }
}

impl Blueprint<Actions> for Count {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(CountProcessor {
            metric: self.node.as_str().into(),
            event: self.event.clone(),
            condition: self.condition.clone(),
            late_after_ms: site.settings.late_after.as_millis() as i64,
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct CountProcessor {
    metric: Arc<str>,
    event: String,
    condition: Option<Expression>,
    late_after_ms: i64,
}

impl Processor<Actions> for CountProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if *action.event.event_type != *self.event {
            return Ok(());
        }
        if let Some(condition) = &self.condition {
            match condition.test(&action.event) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => {
                    let reason = format!("`where` {e}");
                    let verdict = action.verdict(context, VerdictKind::Dead, &self.metric, reason.clone());
                    return Err(Reject { reason, verdict: Some(Box::new(verdict)) });
                }
            }
        }
        let body = ChangeBody::Delta {
            minute: action.effective_ms.div_euclid(60_000),
            total_only: context.origin().append_time_ms - action.effective_ms > self.late_after_ms,
            delta: 1,
        };
        let (subject_id, metric) = (action.event.subject_id.clone(), self.metric.clone());
        context.forward(Item::Change(Change { subject_id, metric, body }));
        Ok(())
    }
}
