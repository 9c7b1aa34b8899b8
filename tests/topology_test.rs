//! `tally test`: the cookbook passes, failures and mistakes are printed as the documentation shows them, and `always`
//! finds the mistakes that it is there for.

#[path = "topology_test/broken.rs"]
mod broken;
#[path = "topology_test/expectations.rs"]
mod expectations;
#[path = "topology_test/golden.rs"]
mod golden;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tally::testing::{CaseFailure, Cause, Outcome, TestFile, run_case};
use tally_testkit::Scratch;

/// Runs `tally test` in a directory: exit code, standard output, standard error.
fn tally_test(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
    let Output { status, stdout, stderr } =
        command.arg("test").args(arguments).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_shipped_topology_and_the_cookbook_do_what_their_tests_expect() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, stdout, stderr) = tally_test(root, &["docs/cookbook", "topology_test.yaml"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    // Every topology has a test beside it, and runs in other orders.
    let topologies = std::fs::read_dir(root.join("docs/cookbook")).unwrap().map(|entry| entry.unwrap().file_name());
    let topologies = topologies.filter_map(|name| name.to_str().unwrap().strip_suffix(".yaml").map(str::to_owned));
    for topology in topologies.filter(|name| !name.ends_with("_test")) {
        let test = format!("docs/cookbook/{topology}_test.yaml: ");
        let lines: Vec<_> = stdout.lines().filter(|line| line.contains(&test)).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(" runs)")), "{test}{lines:?}");
    }
}

const TOPOLOGY: &str = "
application: broken
topics:
  events:   { key: actor_id, value: event, partitions: 4 }
  counters: { key: subject_id, value: counters }
  verdicts: { key: actor_id, value: verdict }
processors:
  valid:  { type: decode, from: events }
  broken: { type: TYPE, from: valid }
  likes:  { type: count, from: broken, event: like }
  totals: { type: total, from: likes, to: counters }
";

/// Runs a case of these steps on a topology with a node of this type.
fn outcome(node_type: &str, always: &str, steps: &str) -> Outcome {
    let dir = Scratch::new();
    std::fs::write(dir.path().join("topology.yaml"), TOPOLOGY.replace("TYPE", node_type)).unwrap();
    let text = format!("cases:\n  - name: broken\n    always: [{always}]\n    steps:\n{steps}");
    let file = TestFile::load("t.yaml", &text, dir.path(), &broken::registry()).unwrap_or_else(|e| panic!("{e}"));
    run_case(&file.topology, &file.cases[0])
}

const REPEATED: &str = "
      - like: article:7
      - { like: article:7, event_id: e1 }
      - { like: article:7, event_id: e1 }
      - expect: { counters: { article:7: { likes: 1 } } }
";
const TAKING_TURNS: &str = "
      - { like: article:7, actor_id: a }
      - { like: article:7, actor_id: c }
      - { like: article:7, actor_id: a }
      - { like: article:7, actor_id: c }
      - expect: { counters: { article:7: { likes: 4 } } }
";

#[test]
fn each_variation_finds_the_mistakes_that_it_is_there_for_and_only_those() {
    for (node_type, always, steps, found) in [
        ("forgetful", "", REPEATED, false),
        ("forgetful", "shuffle 20, batches", REPEATED, false),
        ("forgetful", "crash 20", REPEATED, true),
        ("mixed_up", "", TAKING_TURNS, false),
        ("mixed_up", "batches", TAKING_TURNS, false),
        ("mixed_up", "shuffle 20", TAKING_TURNS, true),
        ("impatient", "", TAKING_TURNS, false),
        ("impatient", "batches", TAKING_TURNS, true),
        ("dedupe", "shuffle 20, crash 20, batches", REPEATED, false),
    ] {
        // `expect` demands the verdict of the one that works.
        let steps = match node_type {
            "dedupe" => steps.replace("} } }", "} }, verdicts: { e1: [duplicate, duplicate] } }"),
            _ => steps.to_owned(),
        };
        let outcome = outcome(node_type, always, &steps);
        assert_eq!(matches!(outcome, Outcome::Failed(_)), found, "{node_type} {always}");
    }
}

#[test]
fn the_same_seed_gives_the_same_failure() {
    let failure = || match outcome("forgetful", "crash 20", REPEATED) {
        Outcome::Failed(CaseFailure { order, trace, cause: Cause::Differences(differences), .. }) => {
            (order, trace, differences)
        }
        _ => panic!("it is found"),
    };
    let (order, trace, differences) = failure();
    assert_eq!((order, trace.clone(), differences.clone()), failure());
    assert!(trace.iter().any(|action| action.ends_with(" crashes") || action.ends_with(" rolls back")), "{trace:?}");
    assert_eq!((differences[0].section, differences[0].key.as_str()), ("counters", "article:7 likes"));
}

/// A topology is not changed by a run: cases may share it.
#[test]
fn cases_do_not_see_each_other() {
    let dir = Scratch::new();
    std::fs::write(dir.path().join("topology.yaml"), TOPOLOGY.replace("TYPE", "dedupe")).unwrap();
    let case = |name: &str| {
        format!(
            "  - name: {name}\n    steps:\n      - like: article:7\n      - expect: {{ counters: {{ article:7: {{ likes: 1 }} }} }}\n"
        )
    };
    let text = format!("cases:\n{}{}", case("one"), case("two"));
    let file = TestFile::load("t.yaml", &text, dir.path(), &broken::registry()).unwrap_or_else(|e| panic!("{e}"));
    let topology = Arc::clone(&file.topology);
    assert!(file.cases.iter().all(|case| matches!(run_case(&topology, case), Outcome::Passed(1))));
}
