//! Values of metrics: what a test expects, and what was found.

use std::fmt;
use tally_model::MetricValue;
use tally_streams::topology::{Report, Value, Yaml};

/// The value that a metric must have.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedValue {
    literal: Literal,
    /// What the metric is without any event: a missing value.
    of_nothing: MetricValue,
}

/// A value as it is written in the file.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Integer(i128),
    Decimal(f64),
    Text(String),
}

impl WantedValue {
    /// Reads the value of a metric that is `of_nothing` without any event.
    pub fn read(yaml: &Yaml, of_nothing: MetricValue, report: &mut Report<'_>) -> Option<Self> {
        let literal = match &yaml.value {
            Value::Null => Literal::Null,
            Value::Integer(number) => Literal::Integer(*number),
            Value::Float(number) => Literal::Decimal(*number),
            Value::String(text) => Literal::Text(text.clone()),
            other => {
                let help = "a number, a text, or null";
                report.add_with_help(yaml.span, format!("expected the value of a metric, found {other}"), help);
                return None;
            }
        };
        Some(Self { literal, of_nothing })
    }

    /// None if the value that was found is this one; otherwise that value, as it is shown.
    pub fn differs_from(&self, got: Option<&MetricValue>) -> Option<String> {
        // A session that another one has absorbed has no value either.
        let found = got.filter(|got| **got != MetricValue::Null);
        let is_met = match (&self.literal, found.unwrap_or(&self.of_nothing)) {
            (Literal::Null, MetricValue::Null) => true,
            (Literal::Text(wanted), MetricValue::Text(got)) => *wanted == **got,
            (Literal::Integer(wanted), got) => number(got).is_some_and(|got| got == wanted.to_string()),
            (Literal::Decimal(wanted), got) => number(got).is_some_and(|got| got.parse() == Ok(*wanted)),
            (Literal::Null | Literal::Text(_), _) => false,
        };
        let shown_of_nothing = || match self.literal {
            Literal::Null | Literal::Integer(0) => shown(&self.of_nothing),
            _ => "nothing".to_owned(),
        };
        (!is_met).then(|| found.map_or_else(shown_of_nothing, shown))
    }
}

impl fmt::Display for WantedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.literal {
            Literal::Null => f.write_str("null"),
            Literal::Integer(number) => write!(f, "{number}"),
            Literal::Decimal(number) => write!(f, "{number}"),
            Literal::Text(text) => f.write_str(&shown_text(text)),
        }
    }
}

/// Whether a value need not be expected: it is what a metric is without any event.
pub fn is_nothing(value: &MetricValue) -> bool {
    *value == MetricValue::Null || number(value).is_some_and(|number| number == "0")
}

/// The value as text. Decimals have no zeros at their end; a text has quotes where it could be taken for something else.
pub fn shown(value: &MetricValue) -> String {
    match value {
        MetricValue::Text(text) => shown_text(text),
        MetricValue::Null | MetricValue::Integer(_) | MetricValue::Decimal(_) => without_zeros(value.to_string()),
    }
}

/// A number as text, without zeros at the end of a decimal.
fn number(value: &MetricValue) -> Option<String> {
    match value {
        MetricValue::Integer(_) | MetricValue::Decimal(_) => Some(without_zeros(value.to_string())),
        MetricValue::Null | MetricValue::Text(_) => None,
    }
}

fn shown_text(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text.trim() == text
        && text.parse::<f64>().is_err()
        && !["null", "nothing"].contains(&text)
        && !text.contains(|c: char| c == '"' || c.is_control());
    if is_plain { text.to_owned() } else { MetricValue::text(text).to_string() }
}

/// A decimal without zeros at its end.
pub fn without_zeros(decimal: String) -> String {
    match decimal.contains('.') {
        true => decimal.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => decimal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::Decimal;

    fn decimal(text: &str) -> MetricValue {
        Decimal::parse(text).unwrap().into()
    }

    fn wanted(literal: Literal, of_nothing: MetricValue) -> WantedValue {
        WantedValue { literal, of_nothing }
    }

    #[test]
    fn null_zero_and_texts_are_different_values() {
        let (zero, null) = (MetricValue::Integer(0), MetricValue::Null);
        let text = |text: &str| Literal::Text(text.to_owned());
        for (literal, of_nothing, got, told) in [
            (Literal::Null, &null, Some(zero.clone()), Some("0")),
            (Literal::Null, &null, Some(decimal("0.00")), Some("0")),
            (Literal::Null, &null, Some(null.clone()), None),
            (Literal::Null, &null, None, None),
            (Literal::Null, &zero, None, Some("0")),
            (Literal::Integer(0), &zero, None, None),
            (Literal::Integer(0), &zero, Some(null.clone()), None),
            (Literal::Integer(0), &null, None, Some("null")),
            (Literal::Integer(0), &null, Some(null.clone()), Some("null")),
            (Literal::Integer(0), &null, Some(decimal("0.00")), None),
            (Literal::Integer(3), &null, Some(MetricValue::text("3")), Some("\"3\"")),
            (Literal::Integer(3), &zero, None, Some("nothing")),
            (Literal::Integer(3), &null, Some(decimal("3.00")), None),
            (Literal::Decimal(1.5), &null, Some(decimal("1.50")), None),
            (Literal::Decimal(1.5), &null, Some(decimal("1.51")), Some("1.51")),
            // A literal of YAML has no more digits.
            (Literal::Decimal(123_456_789.123_456_79), &null, Some(decimal("123456789.123456789")), None),
            (text("3"), &null, Some(MetricValue::Integer(3)), Some("3")),
            (text("null"), &null, Some(null.clone()), Some("nothing")),
            (Literal::Null, &null, Some(MetricValue::text("null")), Some("\"null\"")),
            (text(""), &null, Some(MetricValue::text("")), None),
            (text(""), &null, None, Some("nothing")),
            (Literal::Null, &null, Some(MetricValue::text("")), Some("\"\"")),
            (text("a b"), &null, Some(MetricValue::text("a c")), Some("a c")),
        ] {
            let shown = format!("{literal:?} {of_nothing} {got:?}");
            let wanted = wanted(literal, of_nothing.clone());
            assert_eq!(wanted.differs_from(got.as_ref()).as_deref(), told, "{shown}");
        }
    }

    #[test]
    fn only_null_and_zero_need_not_be_expected() {
        let nothing = [MetricValue::Null, MetricValue::Integer(0), decimal("0.00")];
        assert!(nothing.iter().all(is_nothing));
        let something = [MetricValue::Integer(-1), decimal("0.01"), MetricValue::text(""), MetricValue::text("0")];
        assert!(!something.iter().any(is_nothing));
    }
}
