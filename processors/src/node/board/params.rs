//! The parameters of a board, and the checked rules made from them.

use super::slots::{Aging, Scoring};
use crate::counting::windows::{self, MINUTE_MS, whole_minutes};
use crate::facts::Groups;
use crate::params::{code, params};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::check_subject_kind;
use tally_streams::topology::{ConfigDuration, ParamError, StorePart};

const TOP_DEFAULT: u32 = 100;
const TOP_MAX: u32 = 1_000;
/// In thousandths.
const WEIGHT_MAX: i64 = 1_000_000_000;
const BUCKET_MINUTES_DEFAULT: i64 = 5;
/// Seven days of five minutes each.
const BUCKETS_MAX: i64 = 2_016;
const ACTORS_MAX: u32 = 256;
const GROUPS_MAX: usize = 100;
const GROUP_BYTES_MAX: usize = 64;
/// Places of all boards of a node together: at a change, each of their tops may be sent whole.
const PLACES_MAX: usize = 20_000;

params! {
    /// Parameters of `type: board`.
    pub struct BoardParams {
        /// Weight of each metric; a node in `from` must count it. A negative weight lowers scores. Up to three decimals, not
        /// 0, and at least one above 0.
        #[param("mapping of metric to weight", limits = format!("From -{0} to {0}.", WEIGHT_MAX / 1_000))]
        pub score: BTreeMap<String, f64>,
        /// Kinds of subjects that may enter the board. At least one.
        #[param("list of kinds of subjects", default = "all kinds")]
        pub kinds: Option<Vec<String>>,
        /// Time after which a change counts half as much. Exactly one of `half_life` and `window` is required.
        #[param("duration", default = "none", limits = windows::LIMITS)]
        pub half_life: Option<ConfigDuration>,
        /// Time within which changes count, all with the same weight.
        #[param("duration", default = "none", limits = windows::LIMITS)]
        pub window: Option<ConfigDuration>,
        /// Step in which the window moves: whole minutes that divide it. Only with `window`.
        #[param(
            "duration",
            default = format!("`{BUCKET_MINUTES_DEFAULT}m`"),
            limits = format!("At most {BUCKETS_MAX} buckets.")
        )]
        pub bucket: Option<ConfigDuration>,
        /// Time before the window with which the window is compared: subjects are ranked by their rise. Whole buckets. Only
        /// with `window`.
        #[param(
            "duration",
            default = "none",
            limits = format!("Window and baseline together have at most {BUCKETS_MAX} buckets.")
        )]
        pub baseline: Option<ConfigDuration>,
        /// Distinct actors that a subject needs for a place.
        #[param("number", default = "none", limits = format!("From 1 to {ACTORS_MAX}."))]
        pub min_actors: Option<u32>,
        /// Property that names the group of an event: besides the board of all subjects there is one for each of `groups`.
        #[param(
            "`properties.<name>`",
            default = "none",
            limits = format!("The name has 1 to {GROUP_BYTES_MAX} of `A-Za-z0-9._-`.")
        )]
        pub group: Option<String>,
        /// Values of the property that have a board. Required with `group`.
        #[param("list of values", default = "none", limits = groups_limits())]
        pub groups: Option<Vec<String>>,
        /// Subjects on each board.
        #[param("number", default = code(TOP_DEFAULT), limits = format!("From 1 to {TOP_MAX}."))]
        pub top: Option<u32>,
    }
}

fn groups_limits() -> String {
    format!(
        "1 to {GROUPS_MAX} values, each of 1 to {GROUP_BYTES_MAX} of `A-Za-z0-9._-`; all boards of the node together hold at \
         most {PLACES_MAX} subjects."
    )
}

/// The checked parameters.
pub(super) struct Rules {
    /// Metric and weight in thousandths.
    pub weights: Vec<(Arc<str>, i64)>,
    pub kinds: Option<Vec<String>>,
    pub scoring: Scoring,
    /// The length of an epoch or a bucket.
    pub slot_minutes: i64,
    pub groups: Option<Groups>,
    pub top: usize,
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
        _ if !(-WEIGHT_MAX..=WEIGHT_MAX).contains(&thousandths) => Err("must be from -1000000 to 1000000"),
        _ => Ok(thousandths),
    }
}

impl Rules {
    pub fn new(params: BoardParams) -> Result<Self, Vec<ParamError>> {
        let mut errors = Vec::new();
        let mut weights: Vec<(Arc<str>, i64)> = Vec::new();
        for (metric, weight) in &params.score {
            match thousandths(*weight) {
                Ok(weight) => weights.push((metric.as_str().into(), weight)),
                Err(rule) => errors.push(ParamError::new(format!("score.{metric}"), rule)),
            }
        }
        if errors.is_empty() && weights.iter().all(|(_, weight)| *weight < 0) {
            errors.push(ParamError::new("score", "needs a weight above 0: otherwise this board stays empty"));
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
        if params.min_actors.is_some_and(|least| !(1..=ACTORS_MAX).contains(&least)) {
            errors.push(ParamError::new("min_actors", format!("must be from 1 to {ACTORS_MAX}")));
        }
        let groups = groups(&params, &mut errors);
        let places = groups.as_ref().map_or(0, |groups| (1 + groups.values.len()) * top as usize);
        if places > PLACES_MAX && top <= TOP_MAX {
            let message = format!("makes {places} places with `top: {top}`, and at most {PLACES_MAX} are kept");
            errors.push(ParamError::new("groups", message).with_help("a shorter `top`, or fewer `groups`"));
        }
        let aging = aging(&params, &mut errors);
        match aging {
            Some((aging, slot_minutes)) if errors.is_empty() => {
                let scoring = Scoring { aging, actors_min: params.min_actors.unwrap_or_default() as usize };
                Ok(Self { weights, kinds: params.kinds, scoring, slot_minutes, groups, top: top as usize })
            }
            _ => Err(errors),
        }
    }

    /// The slot of time that a clock is in; None before there is a clock.
    pub fn tick(&self, clock_ms: i64) -> Option<i64> {
        (clock_ms > i64::MIN).then(|| clock_ms.div_euclid(self.slot_minutes * MINUTE_MS))
    }

    /// The boards of the node: the overall one (None), and one for each group.
    pub fn board_groups(&self) -> impl Iterator<Item = Option<&str>> {
        let groups = self.groups.iter().flat_map(|groups| &groups.values);
        std::iter::once(None).chain(groups.map(|value| Some(value.as_str())))
    }

    /// The parameters that the state depends on, as text. One entry: further ones could be added to existing state.
    pub fn windows(&self) -> Vec<StorePart> {
        let slot = self.slot_minutes;
        let time = match self.scoring.aging {
            Aging::HalfLife => format!("half-life {slot} min"),
            Aging::Window { buckets } => format!("{} min by {slot} min", buckets * slot),
            Aging::Trend { buckets, baseline } => {
                format!("{} min over {} min by {slot} min", buckets * slot, baseline * slot)
            }
        };
        let actors = (self.scoring.actors_min > 0).then(|| format!("{} actors", self.scoring.actors_min));
        let groups = self.groups.as_ref().map(|groups| format!("by {}", groups.property));
        vec![StorePart::Rule(std::iter::once(time).chain(actors).chain(groups).collect::<Vec<_>>().join(", "))]
    }
}

fn groups(params: &BoardParams, errors: &mut Vec<ParamError>) -> Option<Groups> {
    let help = "`group: properties.section, groups: [sports, news]`";
    let (property, values) = match (&params.group, &params.groups) {
        (None, None) => return None,
        (Some(property), Some(values)) => (property, values),
        (Some(_), None) => {
            errors.push(ParamError::new("group", "needs `groups`, the values that have a board").with_help(help));
            return None;
        }
        (None, Some(_)) => {
            errors.push(ParamError::new("groups", "needs `group`, the property that has these values").with_help(help));
            return None;
        }
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_named = |text: &str| (1..=GROUP_BYTES_MAX).contains(&text.len()) && text.chars().all(is_name);
    let name = property.strip_prefix("properties.").filter(|name| is_named(name));
    if name.is_none() {
        let rule = "must be `properties.` and a name of up to 64 of `A-Za-z0-9._-`";
        errors.push(ParamError::new("group", rule).with_help(help));
    }
    if !(1..=GROUPS_MAX).contains(&values.len()) {
        errors.push(ParamError::new("groups", format!("needs 1 to {GROUPS_MAX} values")));
    }
    for (i, value) in values.iter().enumerate() {
        if !is_named(value) {
            errors.push(ParamError::new(format!("groups[{i}]"), "must be 1 to 64 of `A-Za-z0-9._-`"));
        } else if values[..i].contains(value) {
            errors.push(ParamError::new(format!("groups[{i}]"), "is named twice"));
        }
    }
    Some(Groups { property: name?.to_owned(), values: values.clone() })
}

/// How the board forgets, and the length of its slots in minutes.
fn aging(params: &BoardParams, errors: &mut Vec<ParamError>) -> Option<(Aging, i64)> {
    if params.baseline.is_some() && params.window.is_none() {
        let help = "`window: 1h, baseline: 24h`";
        errors.push(ParamError::new("baseline", "goes with `window`, which is held against it").with_help(help));
        return None;
    }
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
            Some((Aging::HalfLife, whole_minutes("half_life", half_life, errors)?))
        }
        (None, Some(window), bucket) => {
            let (path, window) = ("window", whole_minutes("window", window, errors));
            let bucket = match bucket {
                Some(bucket) => ("bucket", whole_minutes("bucket", bucket, errors)?),
                None => (path, BUCKET_MINUTES_DEFAULT),
            };
            let baseline = match params.baseline {
                Some(baseline) => whole_minutes("baseline", baseline, errors)?,
                None => 0,
            };
            let ((path, bucket), window) = (bucket, window?);
            if window % bucket != 0 {
                let message = format!("{bucket}m, the bucket, must divide the window of {window}m");
                errors.push(ParamError::new(path, message).with_help("`bucket: 1m` divides every window"));
            } else if baseline % bucket != 0 {
                let message = format!("must be whole buckets of {bucket}m");
                errors.push(ParamError::new("baseline", message).with_help("`bucket: 1m` divides every baseline"));
            } else if (window + baseline) / bucket > BUCKETS_MAX {
                let count = (window + baseline) / bucket;
                let message = format!("makes {count} buckets, and at most {BUCKETS_MAX} are kept");
                errors.push(
                    ParamError::new(path, message).with_help("a larger `bucket`, or a shorter `window` and `baseline`"),
                );
            }
            let buckets = window / bucket;
            let aging = match baseline / bucket {
                0 => Aging::Window { buckets },
                baseline => Aging::Trend { buckets, baseline },
            };
            Some((aging, bucket))
        }
    }
}
