//! A node's own parameters.

use crate::dataflow::{Count, Excess, Limit, Rule};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_streams::topology::{ConfigDuration, ParamError, Params};

fn params(text: &str) -> Params {
    Params::from_yaml(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

/// "path: message | help" of each error.
fn errors<T: DeserializeOwned>(text: &str) -> Vec<String> {
    let errors = params(text).parse::<T>().err().unwrap_or_default();
    let line = |ParamError { path, message, help, .. }: ParamError| {
        let help = help.map(|help| format!(" | {help}")).unwrap_or_default();
        format!("{path}: {message}{help}")
    };
    errors.into_iter().map(line).collect()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everything {
    whole: i64,
    small: u8,
    half: f64,
    text: String,
    flag: bool,
    nothing: Option<u32>,
    some: Option<u32>,
    list: Vec<Vec<String>>,
    table: BTreeMap<Name, f32>,
    choice: Vec<Choice>,
    #[serde(default)]
    absent: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Name(String);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Choice {
    Plain,
    Number(u32),
    Pair(u32, String),
    Fields { a: u32 },
}

#[test]
fn every_kind_of_value() {
    let text = "{ whole: -5, small: 255, half: 3, text: 'on', flag: true, nothing: ~, some: 7,
        list: [[a, b], []], table: { x: 0.5, y: 1 },
        choice: [plain, number: 3, { pair: [4, on] }, { fields: { a: 1 } }] }";
    let expected = Everything {
        whole: -5,
        small: 255,
        half: 3.0,
        text: "on".into(),
        flag: true,
        nothing: None,
        some: Some(7),
        list: vec![vec!["a".into(), "b".into()], vec![]],
        table: BTreeMap::from([(Name("x".into()), 0.5), (Name("y".into()), 1.0)]),
        choice: vec![Choice::Plain, Choice::Number(3), Choice::Pair(4, "on".into()), Choice::Fields { a: 1 }],
        absent: 0,
    };
    assert_eq!(params(text).parse::<Everything>(), Ok(expected));
}

#[test]
fn every_wrong_kind_is_reported_in_one_go() {
    let text = "{ whole: x, small: 256, half: [], text: 5, flag: on, nothing: -1, some: 1.5,
        list: [[a, 5], b], table: { x: y }, choice: [plane, { number: x }, plain: 1, number, { fields: { b: 1 } }] }";
    let expected = [
        "whole: expected a whole number, found the string `x`",
        "small: expected a whole number from 0 to 255, found the number 256",
        "half: expected a number, found a list",
        "text: expected a string, found the number 5 | write it in quotes: \"5\"",
        "flag: expected true or false, found the string `on`",
        "nothing: expected a whole number from 0 to 4294967295, found the number -1",
        "some: expected a whole number from 0 to 4294967295, found the number 1.5",
        "list[0][1]: expected a string, found the number 5 | write it in quotes: \"5\"",
        "list[1]: expected a list, found the string `b`",
        "table.x: expected a number, found the string `y`",
        "choice[0]: unknown value `plane` | known values: plain, number, pair, fields",
        "choice[1].number: expected a whole number from 0 to 4294967295, found the string `x`",
        "choice[2]: `plain` takes no value, found the number 1",
        "choice[3]: `number` needs a value: `number: …`",
        "choice[4].fields.b: unknown key `b` | known keys: a",
        "choice[4].fields: `a` is missing",
    ];
    assert_eq!(errors::<Everything>(text), expected);
}

#[test]
fn rules_with_durations() {
    let rule = |name: &str, per, excess| Rule { name: name.into(), max: 1, per: ConfigDuration(per), excess };
    let expected = Limit {
        rules: vec![
            rule("a", Duration::from_secs(5), Excess::Hold),
            rule("b", Duration::from_secs(5_400), Excess::Drop),
        ],
    };
    let text = "rules: [{ name: a, max: 1, per: 5s, excess: hold }, { name: b, max: 1, per: 1h 30m }]";
    assert_eq!(params(text).parse::<Limit>(), Ok(expected));
}

#[test]
fn all_unknown_keys_are_found_and_what_they_stand_for_is_not_missing() {
    let text = "{ rules: [{ nam: a, max: 1, per: 5s, zebra: 1 }, { name: b, max: 1, prr: 5s }], rulez: 1 }";
    let expected = [
        "rules[0].nam: unknown key `nam` | did you mean `name`?",
        "rules[0].zebra: unknown key `zebra` | known keys: name, max, per, excess",
        "rules[1].prr: unknown key `prr` | did you mean `per`?",
        "rulez: unknown key `rulez` | did you mean `rules`?",
    ];
    assert_eq!(errors::<Limit>(text), expected);
}

#[test]
fn what_is_missing_is_missing_from_the_mapping_around_it() {
    assert_eq!(errors::<Count>("{}"), [": `event` is missing"]);
    assert_eq!(errors::<Count>(""), [": `event` is missing"]);
    assert_eq!(errors::<Limit>("rules: [{ name: a, max: 1 }]"), ["rules[0]: `per` is missing"]);
    // A second one behind a first.
    let text = "rules: [{ name: a, max: 1 }, { name: a, max: 1, per: 0s }, { max: x, per: 1s }]";
    let expected = [
        "rules[0]: `per` is missing",
        "rules[1].per: a duration of zero makes no sense here",
        "rules[2].max: expected a whole number from 0 to 4294967295, found the string `x`",
        "rules[2]: `name` is missing",
    ];
    assert_eq!(errors::<Limit>(text), expected);
}

#[test]
fn a_list_is_no_mapping_wherever_one_is_expected() {
    let text = "rules: [[a, 1, 5s, hold], { name: b, max: 1, per: 1s }]";
    assert_eq!(errors::<Limit>(text), ["rules[0]: expected a mapping of keys to values, found a list"]);
}

#[test]
fn a_snippet_that_is_no_mapping_is_an_error_of_its_own() {
    let message = |text: &str| Params::from_yaml(text).err().map(|all| all.0[0].message.clone());
    assert_eq!(message("[1, 2]").as_deref(), Some("expected a mapping of parameters, found a list"));
    assert_eq!(message("{ a: 1, a: 2 }").as_deref(), Some("`a` is here twice; first on line 1"));
    assert_eq!(message("{ a: ").as_deref(), Some("unclosed bracket '{'"));
}
