//! The argument of a value: what an event adds to it.

use crate::counting::aggregation::{AggregateValue, Function};
use crate::expression::{Expression, FIELDS, Fault, Schema, Type, Wanted};
use crate::mistake::Mistake;
use std::borrow::Cow;
use tally_model::{Buckets, Datum, Decimal, Event, Partial, Picked, Scalar};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// See the module.
#[derive(Clone)]
pub struct Argument {
    expression: Expression,
    /// What it is read from without an evaluation, where it is no more than that.
    field: Option<Field>,
}

/// A field that is an argument by itself.
#[derive(Clone)]
enum Field {
    Actor,
    Subject,
    /// An event without this property takes no part, and its numbers are read from their digits.
    Property(String),
}

/// A number has at most 24 digits, decimals included: a sum of 10^14 of them fits 128 bits.
const UNITS_END: u128 = 10_u128.pow(24);

/// Why a floating-point number is refused.
const COMPUTED: &str = "must not be computed as a floating-point number, which is not exact: name the property itself";

/// What an argument gives for an event.
enum Given<'a> {
    Digits(Cow<'a, str>),
    Whole(i64),
    Text(Cow<'a, str>),
    Bool(bool),
    /// A floating-point number that was computed.
    Computed(f64),
}

impl Argument {
    /// Compiles the argument of a function.
    pub fn compile(source: &str, function: Function) -> Result<Self, Vec<Fault>> {
        let wanted = match function {
            Function::First | Function::Last | Function::Distinct | Function::Count => Wanted::Scalar,
            _ => Wanted::Number,
        };
        let property = source.trim().strip_prefix("properties.").filter(|name| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            name.bytes().all(is_part) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        });
        let expression = match property {
            // An optional property needs no test: an event without it takes no part.
            Some(name) => {
                let tested = format!("has(properties.{name}) ? properties.{name} : null");
                Expression::compile(&tested, FIELDS, wanted)?
            }
            None => Expression::compile(source, FIELDS, wanted)?,
        };
        if expression.check(&Schema::default())?.kind == Type::Float {
            return Err(vec![Fault::new(COMPUTED)]);
        }
        let field = match source.trim() {
            "actor_id" => Some(Field::Actor),
            "subject_id" => Some(Field::Subject),
            _ => property.map(|name| Field::Property(name.to_owned())),
        };
        Ok(Self { expression, field })
    }

    /// The expression to check against declared properties.
    pub fn expression(&self) -> &Expression {
        &self.expression
    }

    /// The property whose name it is, and nothing else: places in its expression are then not those of the file.
    pub fn property(&self) -> Option<&str> {
        match &self.field {
            Some(Field::Property(name)) => Some(name),
            _ => None,
        }
    }

    /// What an event adds to a value; None where it takes no part.
    pub fn partial(
        &self,
        value: &AggregateValue,
        event: &Event,
        order: (i64, u32, u64),
        hash_seed: u64,
    ) -> Result<Option<Partial>, Mistake> {
        let Some(given) = self.given(event)? else { return Ok(None) };
        let partial = match value.function {
            Function::Count => Partial::Count(1),
            Function::Sum => Partial::Sum(given.number(value.scale)?),
            Function::Min => Partial::Min(given.number(value.scale)?),
            Function::Max => Partial::Max(given.number(value.scale)?),
            Function::Average => Partial::Average { sum: given.number(value.scale)?, count: 1 },
            Function::First => Partial::First(Picked { order, datum: given.datum(value.scale)? }),
            Function::Last => Partial::Last(Picked { order, datum: given.datum(value.scale)? }),
            Function::Distinct => Partial::Distinct(vec![given.hash(hash_seed)]),
            Function::Quantile(_) => {
                let mut buckets = Buckets::default();
                buckets.add(given.number(value.scale)?);
                Partial::Quantile(buckets)
            }
            // It has no argument.
            Function::Ratio(_) => return Ok(None),
        };
        Ok(Some(partial))
    }

    fn given<'a>(&self, event: &'a Event) -> Result<Option<Given<'a>>, Mistake> {
        match &self.field {
            Some(Field::Actor) => Ok(Some(Given::Text(event.actor_id().into()))),
            Some(Field::Subject) => Ok(Some(Given::Text((&*event.subject_id).into()))),
            Some(Field::Property(name)) => {
                Ok(event.properties.get(name).map(|value| match (value, event.decimal(name)) {
                    (_, Some(digits)) => Given::Digits(digits.into()),
                    (Scalar::Text(text), _) => Given::Text(text.into()),
                    (value, _) => Given::of(value.clone()),
                }))
            }
            None => Ok(self.expression.scalar(event)?.map(Given::of)),
        }
    }
}

impl Given<'_> {
    fn of(value: Scalar) -> Self {
        match value {
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int(value) => Self::Whole(value),
            Scalar::Float(value) => Self::Computed(value),
            Scalar::Text(text) => Self::Text(text.into()),
        }
    }

    /// A number, in units of 10^-scale.
    fn number(&self, scale: u8) -> Result<i128, Mistake> {
        let wrong = |reason: &str| Mistake::new(reason, self.text());
        let exact = |number: Option<Decimal>| {
            let number = number.ok_or_else(|| wrong("has too many digits"))?;
            let number = number.rescaled(scale).ok_or_else(|| match scale {
                0 => wrong("must be a whole number: `scale` allows decimals"),
                _ => wrong("has more decimals than `scale` allows"),
            })?;
            match number.units().unsigned_abs() < UNITS_END {
                true => Ok(number.units()),
                false => Err(wrong("has too many digits")),
            }
        };
        match self {
            Self::Digits(digits) => exact(Decimal::parse(digits)),
            Self::Whole(value) => exact(Some(Decimal::integer((*value).into()))),
            Self::Computed(value) => Err(Mistake::new(COMPUTED, value.to_string())),
            Self::Text(_) | Self::Bool(_) => Err(Mistake::new("must be a number", format!("`{}`", self.text()))),
        }
    }

    /// A number or a text.
    fn datum(&self, scale: u8) -> Result<Datum, Mistake> {
        match self {
            Self::Text(text) => Ok(Datum::Text((&**text).into())),
            Self::Bool(value) => Ok(Datum::Text(value.to_string().into())),
            _ => self.number(scale).map(Datum::Number),
        }
    }

    /// Equal values have equal hashes: `1` and `1.0` are one number, and the text `1` is another value.
    fn hash(&self, seed: u64) -> u64 {
        let number = |digits: &str| match Decimal::parse(digits) {
            Some(exact) => exact.shortened().to_string(),
            // Beyond what a decimal can hold, numbers are as exact as a float.
            None => digits.parse::<f64>().map_or_else(|_| digits.to_owned(), |float| format!("{float:e}")),
        };
        let text = self.text();
        match self {
            Self::Text(_) => xxh3_64_with_seed(text.as_bytes(), seed),
            Self::Bool(_) => xxh3_64_with_seed(text.as_bytes(), seed.wrapping_add(1)),
            Self::Digits(_) | Self::Whole(_) | Self::Computed(_) => {
                xxh3_64_with_seed(number(&text).as_bytes(), seed.wrapping_add(2))
            }
        }
    }

    /// As a text, with the digits that were sent.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Digits(digits) => Cow::Borrowed(digits),
            Self::Whole(value) => Cow::Owned(value.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Computed(value) => Cow::Owned(value.to_string()),
        }
    }
}
