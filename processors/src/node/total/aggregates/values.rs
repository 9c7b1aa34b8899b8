//! The values of an `aggregate` node for a subject, for all time or in a window: contributions, added up.

use crate::counting::aggregation::{AggregateValue, Function};
use crate::node::total::sketch::{Growth, Sketch};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tally_model::{Buckets, Datum, Decimal, MetricValue, Partial};
use tally_streams::store::{Accumulator, Deltas, StoreValue};

/// By the id of the value, each added up. A value to which nothing was added is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<(u32, Held)>);

/// A value, added up.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Partial(Partial),
    /// Of distinct values.
    Distinct(Sketch),
}

/// The stored form of what changed of a value; all of it is the difference to nothing.
#[derive(Serialize, Deserialize)]
enum Stored<'a> {
    /// The new value.
    Partial(Cow<'a, Partial>),
    /// Buckets of a quantile with their new counts.
    Buckets(BTreeMap<i16, u64>),
    /// New hashes of distinct values.
    Hashes(Vec<u64>),
    /// Registers of distinct values with their new ranks.
    Ranks(Vec<(u16, u8)>),
    /// All ranks, where the number has become an estimate.
    AllRanks(&'a [u8]),
}

impl Values {
    /// Adds what events contribute.
    pub fn add(&mut self, partials: &[(u32, Partial)]) {
        if self.0.is_empty() {
            // Most nodes have one value or two, and their windows are many.
            self.0.reserve_exact(partials.len());
        }
        for (id, partial) in partials {
            let held = match partial {
                Partial::Distinct(_) => self.entry(*id, || Held::Distinct(Sketch::default())),
                // Merging a partial with itself is not the same as that partial.
                partial => match self.0.iter().position(|(known, _)| known == id) {
                    Some(at) => &mut self.0[at].1,
                    None => {
                        self.0.push((*id, Held::Partial(partial.clone())));
                        continue;
                    }
                },
            };
            match (held, partial) {
                (Held::Distinct(sketch), Partial::Distinct(hashes)) => {
                    hashes.iter().for_each(|hash| drop(sketch.add(*hash)));
                }
                (Held::Partial(held), partial) => held.merge(partial),
                // The id of a value includes its function.
                (Held::Distinct(_), _) => {}
            }
        }
    }

    /// Adds other values.
    pub fn merge(&mut self, other: &Self) {
        for (id, held) in &other.0 {
            match self.0.iter_mut().find(|(known, _)| known == id).map(|(_, held)| held) {
                None => self.0.push((*id, held.clone())),
                Some(Held::Partial(known)) => {
                    if let Held::Partial(other) = held {
                        known.merge(other);
                    }
                }
                Some(Held::Distinct(known)) => {
                    if let Held::Distinct(other) = held {
                        known.merge(other);
                    }
                }
            }
        }
    }

    fn entry(&mut self, id: u32, new: impl FnOnce() -> Held) -> &mut Held {
        let at = self.0.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
            self.0.push((id, new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    fn get(&self, id: u32) -> Option<&Held> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, held)| held)
    }

    /// The result of a value. Of no events, counts and sums are 0 and everything else is null.
    pub fn result(&self, id: u32, value: &AggregateValue) -> MetricValue {
        let number = |units, scale| Decimal::new(units, scale).map_or(MetricValue::Null, MetricValue::from);
        let scale = value.result_scale();
        match self.get(id) {
            None => match value.kind().of_nothing() {
                MetricValue::Integer(nothing) => number(nothing.into(), scale),
                nothing => nothing,
            },
            Some(Held::Distinct(sketch)) => sketch.count().into(),
            Some(Held::Partial(partial)) => match partial {
                Partial::Count(count) => number((*count).into(), 0),
                Partial::Sum(units) | Partial::Min(units) | Partial::Max(units) => number(*units, scale),
                Partial::First(picked) | Partial::Last(picked) => match &picked.datum {
                    Datum::Number(units) => number(*units, scale),
                    Datum::Text(text) => MetricValue::text(text),
                },
                Partial::Average { sum, count } => number(average(*sum, *count, scale - value.scale), scale),
                Partial::Quantile(buckets) => match value.function {
                    Function::Quantile(q) => {
                        buckets.quantile(q).map_or(MetricValue::Null, |units| number(units, scale))
                    }
                    _ => MetricValue::Null,
                },
                // Those are held as sketches.
                Partial::Distinct(_) => MetricValue::Null,
            },
        }
    }
}

/// With this many more decimals than the sum, rounded half away from zero.
fn average(sum: i128, count: u64, decimals: u8) -> i128 {
    let (count, units) = (i128::from(count.max(1)), sum.saturating_mul(10_i128.pow(decimals.into())));
    let (whole, rest) = (units / count, units % count);
    if 2 * rest.abs() >= count { whole + units.signum() } else { whole }
}

impl Held {
    /// What changed since `before`; None if nothing did.
    fn difference(&self, before: Option<&Self>) -> Option<Stored<'_>> {
        let nothing = Sketch::default();
        match (self, before) {
            (now, Some(before)) if now == before => None,
            (Self::Partial(Partial::Quantile(now)), before) => {
                let before = match before {
                    Some(Self::Partial(Partial::Quantile(before))) => &before.0,
                    _ => &BTreeMap::new(),
                };
                let changed = now.0.iter().filter(|(bucket, count)| before.get(bucket) != Some(count));
                Some(Stored::Buckets(changed.map(|(bucket, count)| (*bucket, *count)).collect()))
            }
            (Self::Partial(now), _) => Some(Stored::Partial(Cow::Borrowed(now))),
            (Self::Distinct(now), before) => {
                let before = if let Some(Self::Distinct(before)) = before { before } else { &nothing };
                Some(match now.growth(before) {
                    Growth::Hashes(hashes) => Stored::Hashes(hashes),
                    Growth::Ranks(ranks) => Stored::Ranks(ranks),
                    Growth::All(ranks) => Stored::AllRanks(ranks),
                })
            }
        }
    }
}

impl Deltas for Values {
    /// Postcard: a list of ids with what changed.
    fn delta(&self, before: &Self, out: &mut Vec<u8>) {
        let changed = self.0.iter().filter_map(|(id, held)| Some((*id, held.difference(before.get(*id))?)));
        let changed: Vec<(u32, Stored<'_>)> = changed.collect();
        if !changed.is_empty()
            && let Ok(bytes) = postcard::to_extend(&changed, std::mem::take(out))
        {
            *out = bytes;
        }
    }

    fn apply(&mut self, delta: &[u8]) -> bool {
        if delta.is_empty() {
            return true;
        }
        let Ok(changed) = postcard::from_bytes::<Vec<(u32, Stored<'_>)>>(delta) else { return false };
        changed.into_iter().all(|(id, stored)| self.apply_one(id, stored))
    }
}

impl Values {
    fn apply_one(&mut self, id: u32, stored: Stored<'_>) -> bool {
        let sketch = |held: &mut Held, change: &dyn Fn(&mut Sketch) -> bool| match held {
            Held::Distinct(sketch) => change(sketch),
            Held::Partial(_) => false,
        };
        let distinct = || Held::Distinct(Sketch::default());
        match stored {
            Stored::Partial(partial) => {
                *self.entry(id, distinct) = Held::Partial(partial.into_owned());
                true
            }
            Stored::Buckets(counts) => match self.entry(id, || Held::Partial(Partial::Quantile(Buckets::default()))) {
                Held::Partial(Partial::Quantile(buckets)) => {
                    buckets.0.extend(counts);
                    true
                }
                _ => false,
            },
            Stored::Hashes(hashes) => sketch(self.entry(id, distinct), &|sketch| {
                hashes.iter().for_each(|hash| drop(sketch.add(*hash)));
                true
            }),
            Stored::Ranks(ranks) => sketch(self.entry(id, distinct), &|sketch| sketch.raise(ranks.iter().copied())),
            Stored::AllRanks(ranks) => {
                sketch(self.entry(id, distinct), &|sketch| sketch.raise((0..).zip(ranks.iter().copied())))
            }
        }
    }
}

impl StoreValue for Values {
    /// The difference to nothing.
    fn encode(&self, out: &mut Vec<u8>) {
        self.delta(&Self::default(), out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut values = Self::default();
        values.apply(bytes).then_some(values)
    }
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
