//! A metric as a node counts it: its changes, with the additions that other nodes want ([`MetricWant`]).
//!
//! Boards need the actors and the group. The count within a group has a metric name of its own ([`grouped_metric`]);
//! actors are sent as visitors of the minute. Both are combined like all changes, and totals ignore them.

use super::aggregation::start_ms;
use super::windows::MINUTE_MS;
use crate::dataflow::Actions;
use crate::facts::MetricWant;
use crate::item::Item;
use std::sync::Arc;
use tally_model::{Change, ChangeBody, Event, Scalar, grouped_metric};
use tally_streams::processor::Context;
use tally_streams::topology::BuildSite;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// See the module.
pub struct CountedMetric {
    metric: Arc<str>,
    /// Whether a node needs the actors.
    actors: bool,
    /// The property whose value is the group.
    property: Option<String>,
    groups: Vec<Group>,
    hash_seed: u64,
    late_after_ms: i64,
}

struct Group {
    value: String,
    tag: u32,
    /// The metric's name within the group.
    metric: Arc<str>,
}

/// The event that counts, or retracts a count.
pub struct Act<'a> {
    pub event: &'a Event,
    /// When what is counted happened.
    pub since_ms: i64,
    /// The amount to add. Totals are i64 without a check for overflow, so a node limits what one event adds. A negative
    /// delta is a retraction.
    pub delta: i64,
    /// See [`CountedMetric::group_of`]; of a retraction, what it was when it was counted.
    pub group: u32,
}

impl CountedMetric {
    /// A metric with the additions that nodes of the topology want.
    pub fn new(metric: Arc<str>, site: &BuildSite<'_, Actions>) -> Self {
        let mut counted = Self {
            metric,
            actors: false,
            property: None,
            groups: Vec::new(),
            hash_seed: site.hash_seed,
            late_after_ms: site.settings.late_after.as_millis() as i64,
        };
        let wants = site.nodes.iter().flat_map(|(_, facts)| &facts.wants);
        for MetricWant { actors, groups, .. } in wants.filter(|want| want.metric == counted.metric) {
            counted.actors |= actors;
            let Some(groups) = groups else { continue };
            counted.property = Some(groups.property.clone());
            for value in &groups.values {
                if counted.groups.iter().all(|group| group.value != *value) {
                    let metric = grouped_metric(&counted.metric, &groups.property, value).into();
                    counted.groups.push(Group { value: value.clone(), tag: group_tag(value), metric });
                }
            }
        }
        counted
    }

    /// The tag of the group that an event names; 0 if no node wants that group.
    pub fn group_of(&self, event: &Event) -> u32 {
        let value = self.property.as_ref().and_then(|property| event.properties.get(property));
        let Some(Scalar::Text(value)) = value else { return 0 };
        self.groups.iter().find(|group| group.value == *value).map_or(0, |group| group.tag)
    }

    /// Forwards the changes that an act causes.
    pub fn forward(&self, context: &mut Context<'_, Actions>, subject_id: &Arc<str>, act: &Act<'_>) {
        let Act { event, since_ms, delta, group } = act;
        let minute = since_ms.div_euclid(MINUTE_MS);
        let total_only = self.is_late(context, *since_ms);
        let group = self.groups.iter().find(|known| known.tag == *group).map(|known| &known.metric);
        for metric in std::iter::once(&self.metric).chain(group) {
            let mut send = |body| {
                let (subject_id, metric) = (subject_id.clone(), metric.clone());
                context.forward(Item::Change(Change { subject_id, metric, body }));
            };
            send(ChangeBody::Delta { minute, total_only, delta: *delta });
            // A retraction adds no actor: the act that it retracts already did, at its own minute.
            if self.actors && *delta > 0 {
                let hash = xxh3_64_with_seed(event.actor_id().as_bytes(), self.hash_seed);
                send(ChangeBody::Visitor { window: Some((MINUTE_MS, minute * MINUTE_MS)), hash });
            }
        }
    }

    /// Forwards a visit: for all time, and in the tumbling windows of these lengths that hold it.
    pub fn forward_visit(
        &self,
        context: &mut Context<'_, Actions>,
        subject_id: &Arc<str>,
        (since_ms, hash): (i64, u64),
        lengths_ms: impl Iterator<Item = i64>,
    ) {
        let is_late = self.is_late(context, since_ms);
        let windows = lengths_ms.filter(|_| !is_late).map(|length_ms| Some((length_ms, start_ms(since_ms, length_ms))));
        for window in std::iter::once(None).chain(windows) {
            let (subject_id, metric, body) =
                (subject_id.clone(), self.metric.clone(), ChangeBody::Visitor { window, hash });
            context.forward(Item::Change(Change { subject_id, metric, body }));
        }
    }

    /// Whether the windows of an act may be closed, because it lies so far back.
    fn is_late(&self, context: &Context<'_, Actions>, since_ms: i64) -> bool {
        context.clock_ms() - since_ms > self.late_after_ms
    }
}

/// The tag by which the state stores a group; never 0.
pub fn group_tag(value: &str) -> u32 {
    (xxh3_64(value.as_bytes()) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_remembered_as_it_has_always_been() {
        assert_eq!([group_tag("sports"), group_tag("news")], [793_200_477, 2_393_702_692]);
    }
}
