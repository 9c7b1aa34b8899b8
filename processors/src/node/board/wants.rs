//! What the boards of a topology want to know of a metric besides its changes: who acted, and in which group.
//!
//! A node that counts sends it along, where some board asks. The count within a group goes by a name of its own
//! ([`grouped_metric`]), who acted as visitors of the minute; both are combined like all changes, and totals pass them by.

use super::params::tag_of;
use super::{Board, MINUTE_MS};
use crate::item::{Actions, Item};
use std::sync::Arc;
use tally_model::{Change, ChangeBody, Event, Scalar, grouped_metric};
use tally_streams::processor::Context;
use tally_streams::topology::BuildSite;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A metric as a node counts it, with what boards want to know of it.
pub(crate) struct CountedMetric {
    metric: Arc<str>,
    /// Whether who acted is asked for.
    actors: bool,
    /// The property whose value is the group.
    property: Option<String>,
    groups: Vec<Group>,
    hash_seed: u64,
}

struct Group {
    value: String,
    tag: u32,
    /// The metric's name within the group.
    metric: Arc<str>,
}

/// What is counted, or taken back.
pub(crate) struct Act<'a> {
    pub event: &'a Event,
    /// When what is counted happened.
    pub since_ms: i64,
    pub total_only: bool,
    pub delta: i64,
    /// See [`CountedMetric::group_of`]; of a retraction, what it was when it was counted.
    pub group: u32,
}

impl CountedMetric {
    pub fn new(metric: Arc<str>, site: &BuildSite<'_, Actions>) -> Self {
        let mut counted = Self { metric, actors: false, property: None, groups: Vec::new(), hash_seed: site.hash_seed };
        let metric = counted.metric.clone();
        for rules in boards_of(site, &metric).map(|(_, board)| &board.rules) {
            counted.actors |= rules.scoring.actors_min > 0;
            let Some(groups) = &rules.groups else { continue };
            counted.property = Some(groups.property.clone());
            for value in &groups.values {
                if counted.groups.iter().all(|group| group.value != *value) {
                    let metric = grouped_metric(&counted.metric, &groups.property, value).into();
                    counted.groups.push(Group { value: value.clone(), tag: tag_of(value), metric });
                }
            }
        }
        counted
    }

    /// What remembers the group that an event names; 0 where it names none that has a board.
    pub fn group_of(&self, event: &Event) -> u32 {
        let value = self.property.as_ref().and_then(|property| event.properties.get(property));
        let Some(Scalar::Text(value)) = value else { return 0 };
        self.groups.iter().find(|group| group.value == *value).map_or(0, |group| group.tag)
    }

    /// Sends what follows from an act.
    pub fn forward(&self, context: &mut Context<'_, Actions>, subject_id: &Arc<str>, act: &Act<'_>) {
        let Act { event, since_ms, total_only, delta, group } = act;
        let minute = since_ms.div_euclid(MINUTE_MS);
        let group = self.groups.iter().find(|known| known.tag == *group).map(|known| &known.metric);
        for metric in std::iter::once(&self.metric).chain(group) {
            let mut send = |body| {
                let (subject_id, metric) = (subject_id.clone(), metric.clone());
                context.forward(Item::Change(Change { subject_id, metric, body }));
            };
            send(ChangeBody::Delta { minute, total_only: *total_only, delta: *delta });
            // Who takes back has acted, when it did what is taken back.
            if self.actors && *delta > 0 {
                let hash = xxh3_64_with_seed(event.actor_id.as_bytes(), self.hash_seed);
                send(ChangeBody::Visitor { window: Some((MINUTE_MS, minute * MINUTE_MS)), hash });
            }
        }
    }
}

/// The boards that a metric has a weight on.
pub(super) fn boards_of<'a>(
    site: &'a BuildSite<'_, Actions>,
    metric: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Board)> {
    let boards =
        site.nodes.iter().filter_map(|(node, blueprint)| Some((*node, blueprint.as_any().downcast_ref::<Board>()?)));
    boards.filter(move |(_, board)| board.rules.weights.iter().any(|(name, _)| **name == *metric))
}
