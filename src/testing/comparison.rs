//! Compares what was expected with what was found.

use super::expectation::{Expectation, Scope, Section, Wanted};
use super::metric_value::is_nothing;
use super::observed::{Got, Observed};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// A record that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The section of the results.
    pub section: &'static str,
    /// The record within it.
    pub key: String,
    /// What was expected; None for nothing.
    pub expected: Option<String>,
    /// What was found; None for nothing.
    pub got: Option<String>,
}

/// All differences, in the order of the sections and keys.
pub fn compare(expectation: &Expectation, observed: &Observed) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (scope, expected) in &expectation.scopes {
        let found = observed.scope(scope);
        let keys: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        for key in in_order(keys) {
            let wanted = expected.get(key).map_or(&[][..], Vec::as_slice);
            let got = found.get(key).map_or(&[][..], Vec::as_slice);
            if wanted.is_empty() && !expectation.is_exact {
                continue;
            }
            let (mut missing, mut left) = match wanted {
                [Wanted::Value(wanted)] => {
                    let got = got.iter().find_map(Got::value);
                    wanted.differs_from(got).map(|got| (vec![wanted.to_string()], vec![got])).unwrap_or_default()
                }
                _ => unmatched(scope.0, wanted, got),
            };
            if !expectation.is_exact {
                // Others of the same key are none of its business, but show what there was instead.
                left.truncate(missing.len());
            }
            let rows = missing.len().max(left.len());
            missing.reverse();
            left.reverse();
            for _ in 0..rows {
                differences.push(Difference {
                    section: scope.0.name(),
                    key: label(scope, key),
                    expected: missing.pop(),
                    got: left.pop(),
                });
            }
        }
    }
    differences
}

/// Numbers by their value, so that place 10 of a board comes after place 9.
fn in_order(keys: BTreeSet<&String>) -> Vec<&String> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by_key(|key| (key.parse::<u64>().unwrap_or_default(), *key));
    keys
}

fn label((_, name): &Scope, key: &str) -> String {
    [name, key].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What is expected and not there, and what is there and not expected.
fn unmatched(section: Section, wanted: &[Wanted], got: &[Got]) -> (Vec<String>, Vec<String>) {
    // What each record is taken for.
    let got: Vec<&Got> = got.iter().filter(|got| !got.value().is_some_and(is_nothing)).collect();
    let mut taken = vec![None; got.len()];
    let meets = |at: usize, place: usize| is_met(section, &wanted[at], got[place]);
    let mut missing = Vec::new();
    for (at, wanted) in wanted.iter().enumerate() {
        if take(at, &meets, &mut taken, &mut vec![false; got.len()]) {
            continue;
        }
        missing.push(wanted.to_string());
    }
    let left = got.iter().zip(&taken).filter(|(_, taken)| taken.is_none());
    (missing, left.map(|(got, _)| got.to_string()).collect())
}

/// Takes a record for what is wanted at `at`, one that is free or one whose holder can take another: of two expectations one
/// may be met by every record that meets the other, and records come in any order. Whether there is one.
fn take(at: usize, meets: &impl Fn(usize, usize) -> bool, taken: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    if let Some(free) = (0..taken.len()).find(|place| taken[*place].is_none() && meets(at, *place)) {
        taken[free] = Some(at);
        return true;
    }
    for place in 0..taken.len() {
        if !meets(at, place) || std::mem::replace(&mut seen[place], true) {
            continue;
        }
        if let Some(holder) = taken[place]
            && take(holder, meets, taken, seen)
        {
            taken[place] = Some(at);
            return true;
        }
    }
    false
}

fn is_met(section: Section, wanted: &Wanted, got: &Got) -> bool {
    match (wanted, got) {
        (Wanted::Text(wanted), Got::Text(got)) => {
            got.strip_prefix(wanted.as_str()).is_some_and(|rest| section.may_be_left_out(rest))
        }
        (Wanted::Fields(wanted), Got::Record(got)) => has_fields(wanted, got),
        (Wanted::Value(wanted), Got::Value(got)) => wanted.differs_from(Some(got)).is_none(),
        _ => false,
    }
}

/// Whether a value has all fields of another one.
fn has_fields(wanted: &Json, got: &Json) -> bool {
    match (wanted, got) {
        (Json::Object(wanted), Json::Object(got)) => {
            wanted.iter().all(|(name, wanted)| has_fields(wanted, got.get(name).unwrap_or(&Json::Null)))
        }
        (wanted, got) => wanted == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_that_meets_two_expectations_is_left_to_the_one_that_needs_it() {
        let (any, special) = (json!({"a": 1}), json!({"a": 1, "b": 2}));
        let wanted = [any.clone(), special.clone()].map(Wanted::Fields);
        for found in [[any.clone(), special.clone()], [special.clone(), any.clone()]] {
            assert_eq!(unmatched(Section::Records, &wanted, &found.map(Got::Record)), (vec![], vec![]));
        }
        let (missing, left) = unmatched(Section::Records, &wanted, &[any.clone(), any.clone()].map(Got::Record));
        assert_eq!((missing, left), (vec![special.to_string()], vec![any.to_string()]));
    }

    #[test]
    fn a_dead_letter_is_met_by_any_beginning_of_its_reason_and_a_verdict_by_whole_words() {
        for (section, wanted, got, is_met) in [
            (Section::DeadLetters, "`properties` has a wr", "`properties` has a wrong type: `n` of `buy`", true),
            (Section::DeadLetters, "", "not JSON: expected ident", true),
            (Section::DeadLetters, "not JSON: expected ident (", "not JSON: expected ident", false),
            (Section::DeadLetters, "JSON", "not JSON", false),
            (Section::Verdicts, "limited", "limited burst", true),
            (Section::Verdicts, "limited bur", "limited burst", false),
            (Section::Verdicts, "limit", "limited", false),
            (Section::Boards, "article:1", "article:10 5", false),
            (Section::Boards, "article:1", "article:1 5", true),
            (Section::Stores, "1", "10", false),
        ] {
            let found = unmatched(section, &[Wanted::Text(wanted.to_owned())], &[Got::Text(got.to_owned())]);
            assert_eq!(found == (vec![], vec![]), is_met, "{wanted} {got}");
        }
    }
}
