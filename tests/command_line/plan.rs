//! `tally plan`: the control record of a log that has run, and topologies that differ from its own.

use super::beginning::run;
use super::tally;
use std::fs;
use tally_testkit::{SHIPPED_TOPOLOGY, Scratch};

#[test]
fn what_is_kept_new_and_lost_is_one_line_each_and_losses_come_last() {
    let dir = Scratch::new();
    let told = |line: &str| {
        let output = tally(dir.path(), line);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, stderr) = told("plan");
    assert_eq!((code, stderr.as_str()), (Some(2), "./data/log: there is no log: it has no data.mdb\n"));

    let (_, service) = run(dir.path(), |_| {});
    let (code, stdout, stderr) = told("plan");
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "while it runs: {stdout}");
    assert_eq!(service.terminate().0.code(), Some(0));

    let (code, stdout, stderr) = told("plan");
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.lines().all(|line| line.starts_with("= ") || line.starts_with("~ ")), "{stdout}");
    assert!(
        stdout.lines().any(|line| line.starts_with("= user-actions/likes ") && line.ends_with("  kept")),
        "{stdout}"
    );

    // A new node without state, one with state, a further window, and one that is gone.
    let changed = SHIPPED_TOPOLOGY
        .replace("  calls:  ", "  saves:    { type: toggle, from: checked, on: save, off: unsave }\n  calls:  ")
        .replace("from: [likes, collects, follows, ", "from: [likes, collects, saves, ")
        .replace("event: view, windows: [1h, 1d] }", "event: view, windows: [1h, 1d, 7d] }");
    let changed: Vec<_> = changed.lines().filter(|line| !line.contains("follow")).collect();
    let changed = changed.join("\n");
    fs::write(dir.path().join("topology.yaml"), &changed).unwrap();
    let (code, stdout, stderr) = told("plan");
    let find = |name: &str| stdout.lines().find(|line| line.contains(&format!(" {name} "))).unwrap_or_default();
    assert_eq!(
        (code, stderr.as_str()),
        (Some(1), "1 store would be lost: revert the change, or start over with an empty log\n"),
        "{stdout}"
    );
    assert!(
        find("user-actions/saves").starts_with("+ ") && find("user-actions/saves").ends_with("  starts empty"),
        "{stdout}"
    );
    assert!(find("user-actions/views").starts_with("~ "), "{stdout}");
    assert!(find("by-subject_id/totals-windows").starts_with("+ "), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("! user-actions/follows ") && last.ends_with("  lost: the store is gone"), "{stdout}");

    // Another application has no state here.
    fs::write(dir.path().join("topology.yaml"), SHIPPED_TOPOLOGY.replace("application: tally", "application: other"))
        .unwrap();
    let (code, stdout, _) = told("plan");
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("./data/log: no state of application `other`\n~ "), "{stdout}");
    assert!(stdout.lines().last().unwrap().starts_with("+ "), "{stdout}");
}
