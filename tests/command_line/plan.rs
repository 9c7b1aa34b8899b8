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
    let (last, lines) =
        stdout.lines().collect::<Vec<_>>().split_last().map(|(last, lines)| (*last, lines.to_vec())).unwrap();
    let (state, lines) = lines.split_first().unwrap();
    assert!(lines.iter().all(|line| line.starts_with("= ") || line.starts_with("~ ")), "{stdout}");
    // It has processed nothing.
    let [first, second, third] = ["user-actions", "by-subject_id", "by-board"].map(|name| state.contains(name));
    assert!(state.starts_with("state in the log: ") && first && second && third, "{stdout}");
    assert_eq!(last, "nothing is lost");
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
    let stateless: Vec<_> = stdout.lines().filter(|line| line.starts_with("~ ")).collect();
    assert!(stateless.len() == 1 && stateless[0].contains(" views,"), "{stdout}");
    let windows = find("by-subject_id/totals-windows");
    assert!(windows.starts_with("+ ") && windows.contains("window 7d (views) of the store is new"), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("! user-actions/follows ") && last.ends_with("  lost: the store is gone"), "{stdout}");

    // Another application has no state here.
    fs::write(dir.path().join("topology.yaml"), SHIPPED_TOPOLOGY.replace("application: tally", "application: other"))
        .unwrap();
    let (code, stdout, _) = told("plan");
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("./data/log: no state of application `other`\n~ "), "{stdout}");
    let last: Vec<_> = stdout.lines().rev().take(2).collect();
    assert!(last[0] == "nothing is lost" && last[1].starts_with("+ "), "{stdout}");

    // What a process would refuse before it looks at the state.
    let changed = SHIPPED_TOPOLOGY
        .replace("partitions: 1, cleanup: compact }", "partitions: 1, cleanup: delete }")
        .replace("partitions: 8", "partitions: 4");
    fs::write(dir.path().join("topology.yaml"), &changed).unwrap();
    let (code, stdout, stderr) = told("plan");
    let refused = tally(dir.path(), "run --listen 127.0.0.1:0");
    let run = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((code, refused.status.code()), (Some(1), Some(2)), "{stdout}{stderr}{run}");
    let topics: Vec<_> = stdout.lines().filter_map(|line| line.strip_prefix("! topic ")).collect();
    let details: Vec<_> =
        topics.iter().filter_map(|line| line.split_once(' ')).map(|(_, detail)| detail.trim()).collect();
    assert!(details.iter().any(|detail| run.contains(detail)), "{stdout}{run}");
    let cleanup = "has the cleanup `compact` and is requested with `delete`: request `compact`, or use another topic";
    assert!(details.contains(&cleanup), "{stdout}");
    assert!(details.iter().any(|detail| detail.starts_with("has 8 partitions and is requested with 4: ")), "{stdout}");
}
