//! What `tally test` prints, to the letter.

use super::tally_test;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use tally_testkit::Scratch;

const TOPOLOGY: &str = include_str!("../../docs/cookbook/comments.yaml");

/// A directory with a topology and these test files.
fn stage(files: &[(&str, &str)]) -> Scratch {
    let dir = Scratch::new();
    fs::write(dir.path().join("topology.yaml"), TOPOLOGY).unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const PASSING: &str = "\
cases:
  - name: a comment counts
    steps:
      - { comment: article:7, properties: { length: 5 } }
      - expect: { counters: { article:7: { comments: 1 } } }
  - name: a share counts
    always: [shuffle 2, crash 3, batches]
    steps:
      - share: article:7
      - expect: { counters: { article:7: { shares: 1 } } }
";

const FAILING: &str = "\
cases:
  - name: everything is different
    steps:
      - { comment: article:7, properties: { length: 5 }, times: 6 }
      - { share: article:8, at: +1h }
      - record: not json
      - expect:
          counters: { article:7: { comments: 2, shares: 1 } }
          windows: { article:7: { comments 1h: { +0s: 5, +1h: 3 } } }
          verdicts: { e1: duplicate, e6: limited }
          stores: { fresh: 4 }
  - name: more than this is there
    steps:
      - share: article:7
      - includes: { counters: { article:7: { shares: 2 }, article:8: { shares: 0 } } }
";

const FAILED: &str = "\
FAIL  failing_test.yaml: everything is different
      failing_test.yaml:7:9
        counters      article:7 comments         expected 2          got 5
        counters      article:7 shares           expected 1          got nothing
        counters      article:8 shares           expected nothing    got 1
        windows       article:7 comments 1d +0s  expected nothing    got 5
        windows       article:7 comments 1h +1h  expected 3          got nothing
        verdicts      e1                         expected duplicate  got nothing
        dead_letters  not json                   expected nothing    got not JSON: expected ident (line 1 column 2)
        stores        fresh                      expected 4          got 7
FAIL  failing_test.yaml: more than this is there
      failing_test.yaml:15:9
        counters  article:7 shares  expected 2  got 1
2 cases in 1 file: 0 passed, 2 failed
";

const MISTAKEN: &str = "\
topolgy: topology.yaml
always: [shuffel 20, crash]
cases:
  - name: everything is misspelt
    steps:
      - { coment: article:7, properties: { length: 5 } }
      - { comment: article:7, actor: u2 }
      - { share: article:7, at: 5s }
      - { share: article:7, at: +5m }
      - { share: article:7, at: +4m }
      - wait: soon
      - expect: { counters: { article:7: { coments: 2 } }, boards: { hot: [] } }
      - expect: { windows: { article:7: { comments 2h: { +0s: 5 } } }, stores: { fresch: 4 }, verdict: {} }
      - includes: { verdicts: { e1: doubled } }
";

const MISTAKES: &str = include_str!("mistakes.txt");

#[test]
fn passing_cases_are_one_line_each() {
    let dir = stage(&[("comments_test.yaml", PASSING), ("deeper/notes.yaml", "not a test")]);
    let printed = "\
ok    comments_test.yaml: a comment counts
ok    comments_test.yaml: a share counts (10 runs)
2 cases in 1 file: 2 passed
";
    assert_eq!(tally_test(dir.path(), &[]), (Some(0), printed.to_owned(), String::new()));
    let filtered = "ok    comments_test.yaml: a share counts (10 runs)\n1 case in 1 file: 1 passed\n";
    let arguments = ["comments_test.yaml", "--filter", "share"];
    assert_eq!(tally_test(dir.path(), &arguments), (Some(0), filtered.to_owned(), String::new()));
}

#[test]
fn a_difference_is_one_line() {
    let dir = stage(&[("failing_test.yaml", FAILING)]);
    assert_eq!(tally_test(dir.path(), &[]), (Some(1), FAILED.to_owned(), String::new()));
}

#[test]
fn mistakes_are_reported_as_those_of_a_topology() {
    let dir = stage(&[("mistaken_test.yaml", MISTAKEN), ("passing_test.yaml", PASSING)]);
    let (code, stdout, stderr) = tally_test(dir.path(), &[]);
    assert_eq!((code, stderr.as_str()), (Some(2), MISTAKES));
    // The others run all the same.
    assert!(stdout.ends_with("2 cases in 2 files: 2 passed; 1 file with mistakes\n"), "{stdout}");
}

#[test]
fn what_cannot_be_run_is_wrong_usage() {
    let dir = stage(&[
        ("empty/notes.yaml", ""),
        ("lost/lost_test.yaml", PASSING),
        ("wrong/topology.yaml", "application: wrong\n"),
        ("wrong/wrong_test.yaml", PASSING),
        ("passing_test.yaml", PASSING),
    ]);
    for (arguments, told) in [
        (&["empty"][..], "empty: no file named `*_test.yaml`\n"),
        (&["gone"], "gone: No such file or directory (os error 2)\n"),
        (&["passing_test.yaml", "--filter", "nothing"], "no case matches --filter nothing\n"),
        (&["lost"], "lost/lost_test.yaml:1:1: lost/topology.yaml: No such file or directory (os error 2)\n"),
        (&["wrong"], "wrong/topology.yaml:1:1: the file has no `processors`\n"),
    ] {
        let (code, _, stderr) = tally_test(dir.path(), arguments);
        assert!(code == Some(2) && stderr.starts_with(told), "{arguments:?}: {code:?} {stderr}");
    }
}

#[test]
fn the_xml_has_every_case_and_is_well_formed() {
    let failing = FAILING.replace("more than this is there", "'a \"<quoted>\" & case'");
    let dir = stage(&[("a_test.yaml", PASSING), ("b_test.yaml", &failing), ("c_test.yaml", MISTAKEN)]);
    assert_eq!(tally_test(dir.path(), &["--junit", "out.xml"]).0, Some(2));
    let xml = fs::read_to_string(dir.path().join("out.xml")).unwrap();
    let elements = elements(&xml);
    let count = |name: &str| elements.iter().filter(|(known, _)| known == name).count();
    assert_eq!(["testsuite", "testcase", "failure", "error"].map(count), [3, 5, 2, 1]);
    let suites: Vec<_> =
        elements.iter().filter(|(name, _)| name == "testsuite").map(|(_, rest)| rest.as_str()).collect();
    assert_eq!(
        suites,
        [
            "name=\"a_test.yaml\" tests=\"2\" failures=\"0\" errors=\"0\"",
            "name=\"b_test.yaml\" tests=\"2\" failures=\"2\" errors=\"0\"",
            "name=\"c_test.yaml\" tests=\"1\" failures=\"0\" errors=\"1\"",
        ]
    );
    assert!(xml.contains("name=\"a &quot;&lt;quoted&gt;&quot; &amp; case\""), "{xml}");
    assert!(xml.contains("expected 2          got 5"), "{xml}");
}

/// The elements of a document in which every tag is closed, each with its attributes.
///
/// # Panics
/// When a tag is not closed, or a character stands where XML does not allow it.
fn elements(xml: &str) -> Vec<(String, String)> {
    let body = xml.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").expect("a declaration");
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for part in body.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>') && references_are_known(text) && references_are_known(tag), "{part}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{part}");
            continue;
        }
        let is_empty = tag.ends_with('/');
        let (name, rest) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag, ""));
        assert_eq!(rest.matches('"').count() % 2, 0, "{part}");
        if !is_empty {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), rest.to_owned()));
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

fn references_are_known(text: &str) -> bool {
    let known = ["amp;", "lt;", "gt;", "quot;"];
    text.split('&').skip(1).all(|rest| known.iter().any(|known| rest.starts_with(known)))
}

#[test]
fn a_watched_test_runs_again_when_a_file_changes() {
    let dir = stage(&[("a_test.yaml", PASSING)]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally"));
    let mut child = command
        .args(["test", "--watch"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let until_waiting = |lines: &mut dyn Iterator<Item = String>| {
        lines.take_while(|line| !line.starts_with("waiting for changes")).collect::<Vec<_>>()
    };
    assert_eq!(until_waiting(&mut lines).last().unwrap(), "2 cases in 1 file: 2 passed");
    let changed = TOPOLOGY.replace("event: share", "event: shared");
    fs::write(dir.path().join("topology.yaml"), changed).unwrap();
    let printed = until_waiting(&mut lines);
    assert_eq!(printed.last().unwrap(), "0 cases in 1 file: 0 passed; 1 file with mistakes");
    child.kill().unwrap();
    child.wait().unwrap();
}
