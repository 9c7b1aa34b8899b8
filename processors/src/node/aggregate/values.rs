//! The values of an `aggregate` node: parameters and checks.

use super::argument::Argument;
use super::params::add_faults;
use crate::counting::aggregation::{AggregateValue, Function, Ratio};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use tally_model::{Millionths, SCALE_MAX, check_event_type};
use tally_streams::topology::{ParamError, suggest};

/// The longest name of a metric, in bytes: that of the database's column.
const METRIC_BYTES_MAX: usize = 64;
/// The most values of a node.
const VALUES_MAX: usize = 32;
/// Decimals of a ratio without a `scale`.
const RATIO_DECIMALS: u8 = 3;

/// A value: `count`, or a mapping of a function to its argument.
#[derive(Clone, Debug)]
pub enum ValueParams {
    /// The number of events.
    Count,
    /// Any other function.
    Of(Box<ValueOf>),
}

/// Exactly one of the functions is set.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueOf {
    sum: Option<String>,
    min: Option<String>,
    max: Option<String>,
    first: Option<String>,
    last: Option<String>,
    avg: Option<String>,
    distinct: Option<String>,
    quantile: Option<String>,
    ratio: Option<Vec<String>>,
    q: Option<f64>,
    scale: Option<u8>,
}

/// A function, and its argument where it is given.
type FunctionParam = (Function, fn(&ValueOf) -> &Option<String>);

/// The functions that have an argument.
const FUNCTIONS: [FunctionParam; 8] = [
    (Function::Sum, |of| &of.sum),
    (Function::Min, |of| &of.min),
    (Function::Max, |of| &of.max),
    (Function::First, |of| &of.first),
    (Function::Last, |of| &of.last),
    (Function::Average, |of| &of.avg),
    (Function::Distinct, |of| &of.distinct),
    (Function::Quantile(Millionths(0)), |of| &of.quantile),
];

impl ValueOf {
    /// The functions that are given, each with its argument.
    fn functions(&self) -> Vec<(Function, &str)> {
        FUNCTIONS.iter().filter_map(|(function, source)| Some((*function, source(self).as_deref()?))).collect()
    }
}

impl<'de> Deserialize<'de> for ValueParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = ValueParams;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`count`, or a function and its argument such as { sum: duration_ms }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ValueParams, E> {
                match text {
                    "count" => Ok(ValueParams::Count),
                    other => Err(E::custom(format!(
                        "expected `count`, or a function and its argument such as {{ sum: duration_ms }}, found `{other}`"
                    ))),
                }
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<ValueParams, M::Error> {
                ValueOf::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(ValueParams::Of)
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// The values by name, each with its argument.
pub fn check_values(
    node: &str,
    values: &BTreeMap<String, ValueParams>,
    errors: &mut Vec<ParamError>,
) -> (Vec<AggregateValue>, Vec<Option<Argument>>) {
    let (mut checked, mut arguments): (Vec<AggregateValue>, Vec<_>) = (Vec::new(), Vec::new());
    if values.is_empty() || values.len() > VALUES_MAX {
        errors.push(ParamError::new("values", format!("needs 1 to {VALUES_MAX} values")));
    }
    for (name, value) in values {
        let path = format!("values.{name}");
        if let Err(rule) = check_event_type(name) {
            errors.push(ParamError::new(path, format!("the name {rule}")));
            continue;
        }
        let metric = format!("{node}.{name}");
        if metric.len() > METRIC_BYTES_MAX {
            let message = format!("the metric `{metric}` has more than {METRIC_BYTES_MAX} bytes");
            errors.push(ParamError::new(path, message).with_help("a shorter name for the node or the value"));
            continue;
        }
        let Some((function, argument, scale)) = check_value(&path, value, values, errors) else { continue };
        let value = AggregateValue { metric: metric.as_str().into(), function, scale };
        if let Some(other) = checked.iter().find(|other| other.id() == value.id()) {
            let message = format!("`{}` and `{metric}` share a hash: rename one", other.metric);
            errors.push(ParamError::new(path, message));
        }
        checked.push(value);
        arguments.push(argument);
    }
    (checked, arguments)
}

fn check_value(
    path: &str,
    value: &ValueParams,
    values: &BTreeMap<String, ValueParams>,
    errors: &mut Vec<ParamError>,
) -> Option<(Function, Option<Argument>, u8)> {
    let ValueParams::Of(of) = value else { return Some((Function::Count, None, 0)) };
    let before = errors.len();
    let (function, argument) = match (&of.functions()[..], &of.ratio) {
        ([(function, source)], None) => {
            let argument = Argument::compile(source, *function);
            let argument =
                argument.map_err(|faults| add_faults(&format!("{path}.{}", function.name()), faults, errors));
            (check_quantile(path, *function, of.q, errors), argument.ok())
        }
        ([], Some(operands)) => {
            let ratio = check_ratio(&format!("{path}.ratio"), operands, values, errors);
            (check_quantile(path, Function::Ratio(ratio.unwrap_or_default()), of.q, errors), None)
        }
        _ => {
            let names = FUNCTIONS.map(|(function, _)| function.name()).join(", ");
            errors.push(ParamError::new(path, format!("needs exactly one of {names}, ratio")));
            return None;
        }
    };
    if let Some(scale) = of.scale {
        if function == Function::Distinct {
            errors.push(ParamError::new(format!("{path}.scale"), "distinct values are counted, and have no decimals"));
        } else if scale > SCALE_MAX {
            errors.push(ParamError::new(format!("{path}.scale"), format!("must be at most {SCALE_MAX}")));
        }
    }
    let scale = of.scale.unwrap_or(if matches!(function, Function::Ratio(_)) { RATIO_DECIMALS } else { 0 });
    (errors.len() == before).then_some((function, argument, scale))
}

/// With its `q`, if the function is a quantile.
fn check_quantile(path: &str, function: Function, q: Option<f64>, errors: &mut Vec<ParamError>) -> Function {
    match (function, q) {
        (Function::Quantile(_), Some(q)) => match millionths(q) {
            Some(q) => return Function::Quantile(q),
            None => errors.push(ParamError::new(format!("{path}.q"), "must be from 0 to 1, with at most six decimals")),
        },
        (Function::Quantile(_), None) => {
            errors.push(ParamError::new(path, "a quantile needs `q`, such as `q: 0.95`"));
        }
        (_, Some(_)) => errors.push(ParamError::new(format!("{path}.q"), "only a quantile has one")),
        (_, None) => {}
    }
    function
}

/// None where something is wrong.
fn check_ratio(
    path: &str,
    operands: &[String],
    values: &BTreeMap<String, ValueParams>,
    errors: &mut Vec<ParamError>,
) -> Option<Ratio> {
    let [dividend, divisor] = operands else {
        errors.push(ParamError::new(path, "takes two values: `ratio: [a, b]` is `a` divided by `b`"));
        return None;
    };
    let mut place = |i: usize, name: &String| {
        let mut wrong = |message: String, help| {
            errors.push(ParamError { help, ..ParamError::new(format!("{path}[{i}]"), message) });
            None
        };
        let Some(place) = values.keys().position(|known| known == name) else {
            let help = suggest(name, values.keys().map(String::as_str), "values");
            return wrong(format!("unknown value `{name}`"), help);
        };
        let function = match &values[name] {
            ValueParams::Count => Some(Function::Count),
            ValueParams::Of(of) if of.ratio.is_some() => {
                return wrong(
                    format!("`{name}` is a ratio itself"),
                    Some("name the values that it divides".to_owned()),
                );
            }
            ValueParams::Of(of) => of.functions().first().map(|(function, _)| *function),
        };
        match function {
            Some(Function::First | Function::Last) => {
                wrong(format!("`{name}` may be a text; a ratio divides numbers"), None)
            }
            function => Some((place, function.and_then(|function| function.kind().estimate()))),
        }
    };
    let (dividend, divisor) = (place(0, dividend), place(1, divisor));
    let ((dividend, of_dividend), (divisor, of_divisor)) = (dividend?, divisor?);
    let error_ppm = [of_dividend, of_divisor].into_iter().flatten().map(|estimate| estimate.error_ppm).sum();
    Some(Ratio { dividend, divisor, error_ppm })
}

fn millionths(q: f64) -> Option<Millionths> {
    let millionths = (q * 1e6).round();
    let is_valid = (0.0..=1e6).contains(&millionths) && (millionths - q * 1e6).abs() < 1e-6;
    is_valid.then_some(Millionths(millionths as u32))
}
