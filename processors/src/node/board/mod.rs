//! `type: board`: the subjects with the highest scores, exactly.
//!
//! A board is one node of the file and two at work. Beside the totals, [`subjects`] keeps the score of every subject of
//! its partition, and sends the first ones on whenever they have changed. Behind a hop of its own, [`merge`] makes one
//! board of the partitions' tops.

mod actors;
mod decay;
pub(crate) mod merge;
mod params;
mod slots;
#[cfg(test)]
mod slots_tests;
mod subjects;
mod wants;

pub(crate) use wants::{Act, CountedMetric};

use crate::item::Actions;
use crate::metric::{MetricKind, MetricSpec, metrics_of};
use params::{Groups, Rules, tag_of};
use slots::{Aging, Slots};
use std::any::Any;
use std::sync::Arc;
use tally_streams::processor::Processor;
use tally_streams::store::{KeyValueStore, RankedStore, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, ParamError, Params, StoreSpec, suggest};
use xxhash_rust::xxh3::xxh3_128;

const MINUTE_MS: i64 = 60_000;

/// A checked `board` node.
pub struct Board {
    node: String,
    rules: Arc<Rules>,
    /// See [`decay::weights`]; empty but for a half-life.
    decay: Arc<[u64]>,
}

/// The scores of subjects.
type Scores = RankedStore<Arc<str>, Slots>;
/// Of each board what was sent on last.
type Sent = KeyValueStore<Arc<str>, Digest>;

/// The key of what was sent, in [`of_group`].
const SENT: &str = "sent";

/// What has a name on the board of all, by its name on that of a group: `<name>@<group>`.
fn of_group(name: &str, group: Option<&str>) -> Arc<str> {
    group.map_or_else(|| name.into(), |group| format!("{name}@{group}").into())
}

/// XXH3-128 of what was sent: enough to know whether there is anything new.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Digest(u128);

impl Digest {
    fn of<'a>(epoch: i64, items: impl IntoIterator<Item = (&'a str, i128)>) -> Self {
        let mut bytes = epoch.to_le_bytes().to_vec();
        for (subject_id, score) in items {
            bytes.extend_from_slice(&(subject_id.len() as u16).to_le_bytes());
            bytes.extend_from_slice(subject_id.as_bytes());
            match i64::try_from(score) {
                Ok(score) => bytes.extend_from_slice(&score.to_le_bytes()),
                Err(_) => bytes.extend_from_slice(&score.to_le_bytes()),
            }
        }
        Self(xxh3_128(&bytes))
    }
}

/// Takes down what there is of a board now, nothing where nobody is on it; false where that is what was sent last.
fn is_news(sent: &mut Sent, key: &Arc<str>, digest: Option<Digest>) -> bool {
    let is_news = sent.get(key).copied() != digest;
    if is_news {
        *sent.modify(key) = digest;
    }
    is_news
}

impl StoreValue for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u128::from_le_bytes).map(Self)
    }
}

fn sent_name(node: &str) -> String {
    format!("{node}-sent")
}

/// For the registry.
pub fn parse(node: &str, params: &Params) -> Result<Box<dyn Blueprint<Actions>>, Vec<ParamError>> {
    let rules = Rules::new(params.parse()?)?;
    let decay = match rules.scoring.aging {
        Aging::HalfLife => decay::weights(rules.slot_minutes as u64),
        Aging::Window { .. } | Aging::Trend { .. } => Arc::new([]),
    };
    Ok(Box::new(Board { node: node.to_owned(), rules: Arc::new(rules), decay }))
}

impl Board {
    fn inputs<'a>(&self, site: &'a BuildSite<'_, Actions>) -> impl Iterator<Item = (&'a str, Vec<MetricSpec>)> {
        site.inputs.iter().map(|(node, input)| (*node, metrics_of(*input)))
    }

    fn check_metric(&self, name: &str, site: &BuildSite<'_, Actions>) -> Option<ParamError> {
        let counts = |(_, metrics): &(&str, Vec<MetricSpec>)| metrics.iter().any(|metric| metric.name == name);
        let all = || site.nodes.iter().map(|(node, blueprint)| (*node, metrics_of(*blueprint))).filter(counts);
        let error = |message: String| ParamError::new(format!("score.{name}"), message);
        let Some((node, metrics)) = self.inputs(site).find(counts) else {
            let known: Vec<MetricSpec> = self.inputs(site).flat_map(|(_, metrics)| metrics).collect();
            let help = match all().next() {
                Some((node, _)) => Some(format!("`{node}` does: `from: […, {node}]`")),
                None => suggest(name, known.iter().map(|metric| metric.name.as_str()), "metrics"),
            };
            let error = error(format!("no node in `from` counts `{name}`"));
            return Some(ParamError { help, ..error });
        };
        if let Some((other, _)) = all().find(|(other, _)| *other != node) {
            return Some(error(format!("`{node}` and `{other}` both count `{name}`")));
        }
        let unique = metrics.iter().any(|metric| metric.name == name && metric.kind == MetricKind::Unique);
        unique.then(|| error(format!("`{name}` counts distinct actors; a board adds up changes")))
    }

    /// What a node counts remembers one group.
    fn check_groups(&self, Groups { property, values }: &Groups, site: &BuildSite<'_, Actions>) -> Option<ParamError> {
        let metrics: Vec<MetricSpec> = self.inputs(site).flat_map(|(_, metrics)| metrics).collect();
        let others = metrics.iter().flat_map(|metric| {
            wants::boards_of(site, &metric.name).map(move |(node, other)| (&metric.name, node, other))
        });
        others.into_iter().find_map(|(metric, node, other)| {
            let groups = other.rules.groups.as_ref()?;
            if groups.property != *property {
                let message = format!("`{node}` groups `{metric}` by `properties.{}`", groups.property);
                let help = "what is counted remembers one group: take the same property, or another metric";
                return Some(ParamError::new("group", message).with_help(help));
            }
            let same = |value: &&String| groups.values.iter().any(|v| v != *value && tag_of(v) == tag_of(value));
            let value = values.iter().find(same)?;
            Some(ParamError::new("groups", format!("`{value}` and a value of `{node}` share a hash: rename one")))
        })
    }
}

impl Blueprint<Actions> for Board {
    fn stores(&self) -> Vec<StoreSpec> {
        let scores = (self.node.clone(), "ranked", self.rules.windows(), Scores::make as fn() -> _);
        let sent = (sent_name(&self.node), "key-value", Vec::new(), Sent::make as fn() -> _);
        let spec = |(name, kind, windows, make)| StoreSpec { name, kind, schema_version: 1, windows, make };
        [scores, sent].map(spec).into()
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let names = || self.rules.weights.iter().map(|(name, _)| &**name);
        let mut errors: Vec<_> = names().filter_map(|name| self.check_metric(name, site)).collect();
        if errors.is_empty() {
            let idle = self.inputs(site).filter(|(_, metrics)| names().all(|n| metrics.iter().all(|m| m.name != n)));
            let error = |(node, _)| {
                let message = format!("reads `{node}`, and `score` has nothing that it counts");
                ParamError::new("", message).with_help("give it a weight, or take it out of `from`")
            };
            errors.extend(idle.map(error));
        }
        errors.extend(self.rules.groups.as_ref().and_then(|groups| self.check_groups(groups, site)));
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(subjects::SubjectBoard::new(self, site))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
