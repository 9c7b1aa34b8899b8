//! `type: unique`: distinct actors per subject. Exact up to 256, then an estimate (see [`crate::Sketch`]).

use crate::item::{Actions, Item};
use crate::metric::{MetricKind, MetricSpec};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;
use tally_model::{Change, ChangeBody, check_event_type};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, ParamError, Params, StoreSpec};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UniqueParams {
    /// The type of event that is a visit.
    pub event: String,
    /// Who is counted: `actor_id`.
    pub by: VisitorField,
}

/// What tells visitors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VisitorField {
    /// The actor.
    ActorId,
}

/// A checked `unique` node.
pub struct Unique {
    node: String,
    event: String,
}

/// For the registry.
pub fn parse(node: &str, params: &Params) -> Result<Box<dyn Blueprint<Actions>>, Vec<ParamError>> {
    let UniqueParams { event, by: VisitorField::ActorId } = params.parse()?;
    match check_event_type(&event) {
        Ok(()) => Ok(Box::new(Unique { node: node.to_owned(), event })),
        Err(rule) => Err(vec![ParamError::new("event", rule)]),
    }
}

impl Unique {
    pub(crate) fn metric(&self) -> MetricSpec {
        MetricSpec { name: self.node.clone(), kind: MetricKind::Unique, windows_ms: Vec::new() }
    }

    pub(crate) fn event_type(&self) -> String {
        self.event.clone()
    }
}

impl Blueprint<Actions> for Unique {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let metric = self.node.as_str().into();
        Box::new(UniqueProcessor { metric, event: self.event.clone(), hash_seed: site.hash_seed })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct UniqueProcessor {
    metric: Arc<str>,
    event: String,
    hash_seed: u64,
}

impl Processor<Actions> for UniqueProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if *action.event.event_type == *self.event {
            let hash = xxh3_64_with_seed(action.event.actor_id.as_bytes(), self.hash_seed);
            let body = ChangeBody::Visitor { window: None, hash };
            let (subject_id, metric) = (action.event.subject_id.clone(), self.metric.clone());
            context.forward(Item::Change(Change { subject_id, metric, body }));
        }
        Ok(())
    }
}
