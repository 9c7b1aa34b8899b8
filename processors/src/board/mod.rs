//! `type: board`: the subjects with the highest scores, exactly.
//!
//! A board is one node of the file and two at work. Beside the totals, [`subjects`] keeps the score of every subject of
//! its partition, and sends the first ones on whenever they have changed. Behind a hop of its own, [`merge`] makes one
//! board of the partitions' tops.

mod decay;
pub(crate) mod merge;
mod slots;
#[cfg(test)]
mod slots_tests;
mod subjects;

use crate::item::Actions;
use crate::metric::{MetricKind, MetricSpec, metrics_of};
use serde::Deserialize;
use slots::{Aging, Slots};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::check_subject_kind;
use tally_streams::processor::Processor;
use tally_streams::store::{KeyValueStore, RankedStore, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, ConfigDuration, ParamError, Params, StoreSpec, suggest};
use xxhash_rust::xxh3::xxh3_128;

const TOP_DEFAULT: u32 = 100;
const TOP_MAX: u32 = 1_000;
/// In thousandths.
const WEIGHT_MAX: i64 = 1_000_000_000;
const MINUTE_MS: i64 = 60_000;
/// 31 days.
const MINUTES_MAX: i64 = 31 * 1_440;
const BUCKET_MINUTES_DEFAULT: i64 = 5;
/// Seven days of five minutes each.
const BUCKETS_MAX: i64 = 2_016;

/// The parameters. Exactly one of `half_life` and `window`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardParams {
    /// What one of a metric counts: up to three decimals, between -1,000,000 and 1,000,000. A negative weight takes away.
    pub score: BTreeMap<String, f64>,
    /// Only subjects of these kinds; without it, of any.
    #[serde(default)]
    pub kinds: Option<Vec<String>>,
    /// What happened this long ago counts half of what happens now: whole minutes, at most 31d.
    #[serde(default)]
    pub half_life: Option<ConfigDuration>,
    /// Only what happened within this time counts, all of it the same: whole minutes, at most 31d.
    #[serde(default)]
    pub window: Option<ConfigDuration>,
    /// In which steps a window moves: whole minutes that divide it, at most 2,016 of them; 5m by default.
    #[serde(default)]
    pub bucket: Option<ConfigDuration>,
    /// How many subjects: 1 to 1,000; 100 by default.
    #[serde(default)]
    pub top: Option<u32>,
}

/// What parameters come to, once they are checked.
struct Rules {
    /// Metric and weight in thousandths.
    weights: Vec<(Arc<str>, i64)>,
    kinds: Option<Vec<String>>,
    aging: Aging,
    /// Of an epoch or a bucket.
    slot_minutes: i64,
    top: usize,
}

/// A checked `board` node.
pub struct Board {
    node: String,
    rules: Arc<Rules>,
    /// See [`decay::weights`]; empty for a window.
    decay: Arc<[u64]>,
}

/// The scores of subjects.
type Scores = RankedStore<Arc<str>, Slots>;
/// Under one key: what was sent on last.
type Sent = KeyValueStore<Arc<str>, Digest>;
const SENT: &str = "sent";

/// XXH3-128 of what was sent: enough to know whether there is anything new.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Digest(u128);

impl Digest {
    fn of<'a>(epoch: i64, items: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        let mut bytes = epoch.to_le_bytes().to_vec();
        for (subject_id, score) in items {
            bytes.extend_from_slice(&(subject_id.len() as u16).to_le_bytes());
            bytes.extend_from_slice(subject_id.as_bytes());
            bytes.extend_from_slice(&score.to_le_bytes());
        }
        Self(xxh3_128(&bytes))
    }
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
    let decay = match rules.aging {
        Aging::HalfLife => decay::weights(rules.slot_minutes as u64),
        Aging::Window { .. } => Arc::new([]),
    };
    Ok(Box::new(Board { node: node.to_owned(), rules: Arc::new(rules), decay }))
}

/// Whole minutes of a duration, within a limit.
fn minutes(path: &str, duration: ConfigDuration, errors: &mut Vec<ParamError>) -> Option<i64> {
    let millis = i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX);
    let minutes = (millis % MINUTE_MS == 0).then_some(millis / MINUTE_MS);
    let minutes = minutes.filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
    if minutes.is_none() {
        errors.push(ParamError::new(path, "must be whole minutes, from 1m to 31d"));
    }
    minutes
}

/// A weight in thousandths. Division is exact to the last place everywhere, so a decimal of three places and its
/// thousandths give the same number.
fn thousandths(weight: f64) -> Result<i64, &'static str> {
    let rounded = (weight * 1_000.0).round();
    let thousandths = rounded as i64;
    if rounded / 1_000.0 != weight {
        return Err("must have at most three decimals");
    }
    match thousandths {
        0 => Err("must not be 0: it counts nothing"),
        _ if thousandths.abs() > WEIGHT_MAX => Err("must be from -1000000 to 1000000"),
        _ => Ok(thousandths),
    }
}

impl Rules {
    fn new(params: BoardParams) -> Result<Self, Vec<ParamError>> {
        let mut errors = Vec::new();
        let mut weights: Vec<(Arc<str>, i64)> = Vec::new();
        for (metric, weight) in &params.score {
            match thousandths(*weight) {
                Ok(weight) => weights.push((metric.as_str().into(), weight)),
                Err(rule) => errors.push(ParamError::new(format!("score.{metric}"), rule)),
            }
        }
        if errors.is_empty() && weights.iter().all(|(_, weight)| *weight < 0) {
            errors.push(ParamError::new("score", "needs a weight above 0: nobody would ever be on this board"));
        }
        if params.kinds.as_ref().is_some_and(Vec::is_empty) {
            errors.push(ParamError::new("kinds", "needs at least one kind").with_help("without `kinds` all are taken"));
        }
        for (i, kind) in params.kinds.iter().flatten().enumerate() {
            if let Err(rule) = check_subject_kind(kind) {
                errors.push(ParamError::new(format!("kinds[{i}]"), rule));
            }
        }
        let top = params.top.unwrap_or(TOP_DEFAULT);
        if !(1..=TOP_MAX).contains(&top) {
            errors.push(ParamError::new("top", format!("must be from 1 to {TOP_MAX}")));
        }
        let aging = aging(&params, &mut errors);
        match aging {
            Some((aging, slot_minutes)) if errors.is_empty() => {
                Ok(Self { weights, kinds: params.kinds, aging, slot_minutes, top: top as usize })
            }
            _ => Err(errors),
        }
    }

    /// The slot of time that a clock is in; None before there is a clock.
    fn tick(&self, clock_ms: i64) -> Option<i64> {
        (clock_ms > i64::MIN).then(|| clock_ms.div_euclid(self.slot_minutes * MINUTE_MS))
    }
}

/// How the board forgets, and the length of its slots in minutes.
fn aging(params: &BoardParams, errors: &mut Vec<ParamError>) -> Option<(Aging, i64)> {
    match (params.half_life, params.window, params.bucket) {
        (None, None, _) => {
            let help = "`half_life: 6h` halves scores every 6 hours, `window: 24h` counts the last 24";
            errors.push(ParamError::new("", "needs `half_life` or `window`").with_help(help));
            None
        }
        (Some(_), Some(_), _) => {
            errors.push(ParamError::new("window", "cannot be combined with `half_life`").with_help("keep one of them"));
            None
        }
        (Some(half_life), None, bucket) => {
            if bucket.is_some() {
                errors.push(ParamError::new("bucket", "goes with `window`; a half-life needs none"));
            }
            Some((Aging::HalfLife, minutes("half_life", half_life, errors)?))
        }
        (None, Some(window), bucket) => {
            let (path, window) = ("window", minutes("window", window, errors));
            let bucket = match bucket {
                Some(bucket) => ("bucket", minutes("bucket", bucket, errors)?),
                None => (path, BUCKET_MINUTES_DEFAULT),
            };
            let ((path, bucket), window) = (bucket, window?);
            if window % bucket != 0 {
                let message = format!("{bucket}m, the bucket, must divide the window of {window}m");
                errors.push(ParamError::new(path, message).with_help("`bucket: 1m` divides every window"));
            } else if window / bucket > BUCKETS_MAX {
                let message = format!("makes {} buckets, and at most {BUCKETS_MAX} are kept", window / bucket);
                errors.push(ParamError::new(path, message).with_help("a larger `bucket`, or a shorter `window`"));
            }
            Some((Aging::Window { buckets: window / bucket }, bucket))
        }
    }
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
}

impl Blueprint<Actions> for Board {
    fn stores(&self) -> Vec<StoreSpec> {
        let slot = self.rules.slot_minutes;
        let windows = match self.rules.aging {
            Aging::HalfLife => format!("half-life {slot} min"),
            Aging::Window { buckets } => format!("{} min by {slot} min", buckets * slot),
        };
        let scores = (self.node.clone(), "ranked", vec![windows], Scores::make as fn() -> _);
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
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(subjects::SubjectBoard {
            board: self.node.as_str().into(),
            rules: self.rules.clone(),
            decay: self.decay.clone(),
            scores: site.store(&self.node),
            sent: site.store(&sent_name(&self.node)),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
