//! Whatever is read again, in whatever batches and from wherever: the rows end as a naive fold by version has them.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use tally_model::{Counters, OutputType, Reaction};
use tally_sinks::{Batch, Target};
use tally_streams::log::TopicPartition;

/// A record of the history of one partition.
#[derive(Clone, Debug)]
enum Entry {
    Counters(Counters),
    Reaction(Reaction),
}

/// What the pipeline may have written: totals that name what changed, and toggles; versions rise, some are equal.
fn history() -> impl Strategy<Value = Vec<Entry>> {
    let choice = (0..3usize, 0..3usize, 1..5i64, any::<bool>(), any::<bool>());
    prop::collection::vec(choice, 1..40).prop_map(|choices| {
        let (mut totals, mut version) = (vec![BTreeMap::<String, i64>::new(); 3], 1);
        let metrics = ["likes", "reads", "views"];
        let entry = |(who, what, by, raised, toggle): (usize, usize, i64, bool, bool)| {
            version += i64::from(raised);
            if toggle {
                return Entry::Reaction(reaction(&format!("u{who}"), by % 2 == 0, NOW_MS + version, version));
            }
            *totals[who].entry(metrics[what].into()).or_default() += by;
            let subject_id = format!("article:{who}");
            let mut record = counters(&subject_id, &[], &[metrics[what]], version);
            record.counters = totals[who].iter().map(|(metric, value)| (metric.clone(), (*value).into())).collect();
            Entry::Counters(record)
        };
        choices.into_iter().map(entry).collect()
    })
}

/// What a run does next: read and write a batch of that many records, or go back to a share of the position.
#[derive(Clone, Debug)]
enum Action {
    Batch(usize),
    BackTo(f64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![3 => (1..9usize).prop_map(Action::Batch), 1 => (0.0..1.0).prop_map(Action::BackTo)];
    prop::collection::vec(action, 1..20)
}

type Rows = (BTreeMap<(String, String), i64>, BTreeMap<String, (bool, i64, i64)>);

/// The naive fold: totals by subject and metric; active, created_at and version by actor.
fn fold(history: &[Entry]) -> Rows {
    let (mut totals, mut toggles) = Rows::default();
    for entry in history {
        match entry {
            Entry::Counters(record) => {
                for (metric, value) in &record.counters {
                    totals.insert((record.subject_id.clone(), metric.clone()), value.integer().unwrap());
                }
            }
            Entry::Reaction(r) => {
                let row = toggles.entry(r.actor_id.clone()).or_insert((r.active, r.appended_at_ms, r.version));
                *row = (r.active, row.1, r.version);
            }
        }
    }
    (totals, toggles)
}

fn write(target: &mut dyn Target, entries: &[Entry], expected: Option<u64>, next_offset: u64) {
    let mut batch = Batch::default();
    for entry in entries {
        match entry {
            Entry::Counters(record) => add_counters(&mut batch, record, false),
            Entry::Reaction(reaction) => {
                let from = TopicPartition::new("reactions", 0);
                let value = serde_json::to_vec(reaction).unwrap();
                add(&mut batch, &from, OutputType::Reaction, &reaction.key(), &value, false);
            }
        }
    }
    batch.positions.push(step(expected.map(|expected| (expected, 0)), next_offset, &[], 1));
    target.write(&batch).unwrap();
}

fn run(target: &mut dyn Target, history: &[Entry], actions: &[Action]) {
    let (mut at, mut stored) = (0, None);
    let to_the_end = [Action::Batch(history.len())];
    for action in actions.iter().chain(&to_the_end) {
        match action {
            Action::BackTo(share) => at = (at as f64 * share) as usize,
            Action::Batch(records) => {
                let until = (at + records).min(history.len());
                write(target, &history[at..until], stored, until as u64);
                (at, stored) = (until, Some(until as u64));
            }
        }
    }
}

fn check_database(place: &DatabasePlace, history: &[Entry], actions: &[Action]) -> Result<(), TestCaseError> {
    run(&mut *place.target(), history, actions);
    let (totals, toggles) = fold(history);
    let total = |((subject, metric), value): (&(String, String), &i64)| format!("{subject}|{metric}|{value}");
    let expected: Vec<_> = totals.iter().map(total).collect();
    prop_assert_eq!(place.rows("SELECT subject_id, metric, value FROM counters ORDER BY 1, 2"), expected);
    let toggle = |(actor, (active, created, version)): (&String, &(bool, i64, i64))| {
        format!("{actor}|{}|{created}|{version}", i64::from(*active))
    };
    let expected: Vec<_> = toggles.iter().map(toggle).collect();
    prop_assert_eq!(place.rows("SELECT actor_id, active, created_at, version FROM reactions ORDER BY 1"), expected);
    Ok(())
}

#[test]
fn a_server_ends_as_the_fold() {
    for place in server_databases().into_iter().map(DatabasePlace::Server) {
        drop(place.open());
        let mut runner =
            TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) });
        let outcome = runner.run(&(history(), actions()), |(history, actions)| {
            place.clear();
            check_database(&place, &history, &actions)
        });
        outcome.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_ends_as_the_fold(history in history(), actions in actions()) {
        check_database(&DatabasePlace::new(), &history, &actions)?;
    }

    #[test]
    fn the_cache_ends_as_the_fold(history in history(), actions in actions()) {
        let place = CachePlace::new();
        run(&mut *place.target(), &history, &actions);
        let (totals, _) = fold(&history);
        for subject in ["article:0", "article:1", "article:2"] {
            let expected = totals.iter().filter(|((id, _), _)| id == subject).map(|((_, metric), value)| (metric.clone(), *value));
            prop_assert_eq!(place.totals(subject), expected.collect::<BTreeMap<_, _>>());
        }
    }
}
