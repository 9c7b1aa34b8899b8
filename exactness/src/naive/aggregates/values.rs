//! The functions of aggregates over all of their events at once.

use super::Part;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;

/// Numbers are whole billionths: results have at most nine decimals.
pub const ONE: i128 = 1_000_000_000;
/// Up to here the number of distinct values is exact.
const EXACT_DISTINCT_MAX: i128 = 256;
/// Below, quantiles are exact.
const EXACT_QUANTILES_END: i128 = 128;

/// What an event gives to a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Datum {
    /// In billionths.
    Number(i128),
    /// As it is.
    Text(String),
}

impl Datum {
    fn number(&self) -> i128 {
        match self {
            Self::Number(number) => *number,
            Self::Text(text) => panic!("{text:?} is no number"),
        }
    }
}

/// A function.
#[derive(Clone, Copy)]
pub enum Function {
    Count,
    Sum,
    Min,
    Max,
    First,
    Last,
    Average { decimals: u32 },
    Distinct,
    Quantile { percent: usize },
}

/// What a value must be; None is null.
#[derive(Clone, Debug, PartialEq)]
pub enum Right {
    /// Exactly this.
    Exactly(Option<Datum>),
    /// About this number of distinct values.
    Distinct(i128),
    /// A quantile of about this.
    Quantile(i128),
}

impl Right {
    /// Of some events, by the place of the value among those of its node.
    pub fn of(function: Function, at: usize, parts: &[&Part]) -> Self {
        let given: Vec<_> = parts.iter().filter_map(|part| Some((*part, part.arguments[at].as_ref()?))).collect();
        let numbers = || given.iter().map(|(_, datum)| datum.number());
        let place = |part: &Part| (part.time_ms, part.place);
        let number = |number: Option<i128>| Self::Exactly(number.map(Datum::Number));
        match function {
            Function::Count => number(Some(parts.len() as i128 * ONE)),
            Function::Sum => number(Some(numbers().sum())),
            Function::Min => number(numbers().min()),
            Function::Max => number(numbers().max()),
            Function::First => {
                Self::Exactly(given.iter().min_by_key(|(part, _)| place(part)).map(|(_, datum)| (*datum).clone()))
            }
            Function::Last => {
                Self::Exactly(given.iter().max_by_key(|(part, _)| place(part)).map(|(_, datum)| (*datum).clone()))
            }
            Function::Average { decimals } => {
                let unit = ONE / 10_i128.pow(decimals);
                let count = given.len() as i128;
                number((count > 0).then(|| rounded(numbers().sum::<i128>(), count * unit) * unit))
            }
            Function::Distinct => {
                Self::Distinct(given.iter().map(|(_, datum)| datum).collect::<HashSet<_>>().len() as i128)
            }
            Function::Quantile { percent } => {
                let mut sorted: Vec<i128> = numbers().collect();
                sorted.sort_unstable();
                let rank = (sorted.len() * percent).div_ceil(100).max(1);
                sorted.get(rank - 1).map_or(Self::Exactly(None), |number| Self::Quantile(*number))
            }
        }
    }

    /// Whether a value is right.
    pub fn fits(&self, found: Option<&Datum>) -> bool {
        let found = match (self, found) {
            (Self::Exactly(right), found) => return right.as_ref() == found,
            (_, Some(Datum::Number(found))) => *found,
            _ => return false,
        };
        match self {
            Self::Exactly(_) => unreachable!("see above"),
            Self::Distinct(right) if *right <= EXACT_DISTINCT_MAX => found == right * ONE,
            // Five standard errors.
            Self::Distinct(right) => (found - right * ONE).abs() * 25 <= right * ONE,
            Self::Quantile(right) if right.abs() < EXACT_QUANTILES_END * ONE => found == *right,
            Self::Quantile(right) => (found - right).abs() * 128 <= right.abs(),
        }
    }

    /// Whether it is what a missing value stands for.
    pub fn is_nothing(&self) -> bool {
        self.fits(None) || self.fits(Some(&Datum::Number(0)))
    }
}

/// Half away from zero.
fn rounded(number: i128, by: i128) -> i128 {
    let (whole, rest) = (number / by, number % by);
    if 2 * rest.abs() >= by { whole + number.signum() } else { whole }
}

/// A JSON number in billionths; None for anything else, and if it has more than so many decimals.
pub fn number(json: &str, decimals: u32) -> Option<i128> {
    let (sign, digits) = json.strip_prefix('-').map_or((1, json), |digits| (-1, digits));
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent = exponent.parse::<i32>().ok()? - fraction.len() as i32 + 9;
    let units: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = 10_i128.pow(exponent.unsigned_abs());
    let number = match exponent < 0 {
        true if units % power != 0 => return None,
        true => units / power,
        false => units * power,
    };
    (number % (ONE / 10_i128.pow(decimals)) == 0).then_some(sign * number)
}

/// A value as JSON has it: null, a number or a text.
pub fn datum(json: &RawValue) -> Option<Datum> {
    let value = |raw: &RawValue| match number(raw.get(), 9) {
        Some(number) => Datum::Number(number),
        None => Datum::Text(serde_json::from_str(raw.get()).unwrap_or_else(|e| panic!("{raw}: {e}"))),
    };
    Option::<&RawValue>::deserialize(json).expect("JSON").map(value)
}
