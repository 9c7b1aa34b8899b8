//! `tally log`, on the log that a process has left.

use crate::{stage, tally};
use tally_testkit::Site;

#[test]
fn a_log_is_measured_and_verified_at_any_time_and_compacted_while_no_process_has_it() {
    let dir = stage();
    let text = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    let output = tally(dir.path(), "log stat none");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("none: there is no log"), "{}", text(&output.stderr));

    let site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    let log = site.log_dir();
    let service = site.start();
    let run = |action: &str| tally(dir.path(), &format!("log {action} {}", log.display()));
    // Beside the process; it goes on.
    for (action, expected) in [("stat", "hold data"), ("verify", "no damage: "), ("stat", "user-actions")] {
        let output = run(action);
        assert_eq!(output.status.code(), Some(0), "{action}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(expected), "{action}: {}", text(&output.stdout));
    }
    let output = run("compact");
    assert_eq!(output.status.code(), Some(2));
    let refusal = text(&output.stderr);
    assert!(refusal.contains("in use by process") && refusal.contains("stop that one"), "{refusal}");
    assert_eq!(service.terminate().0.code(), Some(0));

    let output = run("stat");
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(table.contains("user-actions") && table.contains("file bytes") && table.contains("hold data"), "{table}");
    for action in ["verify", "compact", "verify"] {
        let output = run(action);
        assert_eq!(output.status.code(), Some(0), "{action}: {}", text(&output.stderr));
        let expected = if action == "verify" { "no damage: " } else { "bytes became" };
        assert!(text(&output.stdout).contains(expected), "{action}: {}", text(&output.stdout));
    }
}
