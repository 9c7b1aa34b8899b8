//! The comparison of benchmarks with their baseline.

use tally_testkit::baseline::{Baseline, Comparison, NOISE, Outcome, Ratios};

const TEXT: &str = "{\n  \"pipeline\": {\n    \"events\": 500,\n    \"ratios\": {\n      \"gone\": 2.0,\n      \
                    \"memory\": 4.0\n    }\n  }\n}\n";

#[test]
fn a_baseline_is_written_as_it_is_read() {
    let baseline = Baseline::parse(TEXT).unwrap();
    assert_eq!(baseline.0["pipeline"], Ratios::new(500, [("gone", 2.0), ("memory", 4.0)]));
    assert_eq!(baseline.to_text(), TEXT);
    let mut rounded = Baseline::default();
    rounded.0.insert("x".into(), Ratios::new(1, [("third", 1.0 / 3.0)]));
    assert!(rounded.to_text().contains("\"third\": 0.333\n"), "{}", rounded.to_text());
}

#[test]
fn a_file_that_is_no_baseline_is_refused_with_what_is_wrong() {
    for (text, part) in [
        ("[]", "expected a map"),
        (r#"{"a": {"ratios": {}}}"#, "`a`: `events` is not a number"),
        (r#"{"a": {"events": 1}}"#, "`a`: `ratios` is not an object"),
        (r#"{"a": {"events": 1, "ratios": {"b": "2"}}}"#, "`a`: `b` is not a ratio"),
        (r#"{"a": {"events": 1, "ratios": {"b": 0}}}"#, "`a`: `b` is not a ratio"),
    ] {
        let refused = Baseline::parse(text).unwrap_err();
        assert!(refused.contains(part), "{text}: {refused}");
    }
}

#[test]
fn only_what_moved_beyond_the_noise_is_reported() {
    let baseline = Ratios::new(500, [("memory", 4.0)]);
    for (ratio, expected) in [
        (4.0, Outcome::Same),
        (4.0 * (1.0 + NOISE) - 0.01, Outcome::Same),
        (4.0 * (1.0 + NOISE) + 0.01, Outcome::Slower),
        (4.0 * (1.0 - NOISE) + 0.01, Outcome::Same),
        (4.0 * (1.0 - NOISE) - 0.01, Outcome::Faster),
    ] {
        let now = Ratios::new(500, [("memory", ratio)]);
        let comparison = Comparison::new(&baseline, &now).unwrap();
        assert_eq!(comparison.outcomes(), [("memory", expected)], "{ratio}");
        assert_eq!(comparison.is_worse(), expected == Outcome::Slower, "{ratio}");
    }
}

#[test]
fn a_measurement_of_one_side_alone_is_reported_and_a_lost_one_is_worse() {
    let baseline = Ratios::new(500, [("gone", 2.0), ("memory", 4.0)]);
    let now = Ratios::new(500, [("fresh", 1.0), ("memory", 5.0)]);
    let comparison = Comparison::new(&baseline, &now).unwrap();
    let expected = [("fresh", Outcome::New), ("gone", Outcome::Missing), ("memory", Outcome::Slower)];
    assert_eq!(comparison.outcomes(), expected);
    assert!(comparison.is_worse());
    let table = "  x plain loop  baseline       now   change\n  \
                   fresh                -      1.00        -  new\n  \
                   gone              2.00         -        -  no longer measured\n  \
                   memory            4.00      5.00    +25 %  slower\n  \
                   3 measurements moved by more than 15 %, or are in one of them alone";
    assert_eq!(comparison.to_string(), table);

    let grown = Ratios::new(500, [("fresh", 1.0), ("gone", 2.0), ("memory", 4.0)]);
    assert!(!Comparison::new(&baseline, &grown).unwrap().is_worse(), "a new one is not");
}

#[test]
fn runs_of_different_numbers_of_events_are_not_compared() {
    let ratios = [("memory", 4.0)];
    assert!(Comparison::new(&Ratios::new(500, ratios), &Ratios::new(501, ratios)).is_none());
}
