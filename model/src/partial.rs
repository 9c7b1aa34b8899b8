//! Partial aggregates: what an event, or several together, add to the values of an `aggregate` node. They commute and
//! can be merged in any order.

use crate::quantile::Buckets;
use serde::{Deserialize, Serialize};

/// What one or more events add to a value. A value to which nothing was added has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Partial {
    /// A number of events.
    Count(u64),
    /// A sum, in units of the value's scale.
    Sum(i128),
    /// The least number.
    Min(i128),
    /// The greatest number.
    Max(i128),
    /// The first in the order of [`Picked`].
    First(Picked),
    /// The last in the order of [`Picked`].
    Last(Picked),
    /// For an average.
    Average {
        /// The sum.
        sum: i128,
        /// How many numbers.
        count: u64,
    },
    /// 64-bit hashes of different items; some may repeat.
    Distinct(Vec<u64>),
    /// For quantiles.
    Quantile(Buckets),
}

/// A value and the event that had it. Events are ordered by effective time, then by their place in the root topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picked {
    /// Effective time, partition and offset.
    pub order: (i64, u32, u64),
    /// The value.
    pub datum: Datum,
}

/// A number or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Datum {
    /// A number, in units of the value's scale.
    Number(i128),
    /// A text.
    Text(Box<str>),
}

impl Partial {
    /// Adds another partial of the same value. Sums cannot overflow: a single number has at most 24 digits.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(other)) => *count = count.saturating_add(*other),
            (Self::Sum(sum), Self::Sum(other)) => *sum = sum.saturating_add(*other),
            (Self::Min(least), Self::Min(other)) => *least = (*least).min(*other),
            (Self::Max(greatest), Self::Max(other)) => *greatest = (*greatest).max(*other),
            (Self::First(first), Self::First(other)) if other.order < first.order => *first = other.clone(),
            (Self::Last(last), Self::Last(other)) if other.order > last.order => *last = other.clone(),
            (Self::Average { sum, count }, Self::Average { sum: other, count: more }) => {
                (*sum, *count) = (sum.saturating_add(*other), count.saturating_add(*more));
            }
            (Self::Distinct(hashes), Self::Distinct(other)) => hashes.extend(other),
            (Self::Quantile(buckets), Self::Quantile(other)) => buckets.merge(other),
            // The name of a value includes its function, so that no others meet.
            _ => {}
        }
    }

    /// Roughly how much memory it holds, in bytes.
    pub fn size_bytes(&self) -> usize {
        let more = match self {
            Self::Distinct(hashes) => 8 * hashes.len(),
            Self::Quantile(buckets) => 32 * buckets.0.len(),
            Self::First(Picked { datum: Datum::Text(text), .. })
            | Self::Last(Picked { datum: Datum::Text(text), .. }) => text.len(),
            _ => 0,
        };
        size_of::<Self>() + more
    }
}
