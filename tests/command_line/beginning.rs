//! The first five minutes: an empty directory, a topology of one's own, a container, and what Prometheus reads.

use super::{stage, tally};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tally_testkit::{Client, SHIPPED_TOPOLOGY, Scratch, Service, Site, wait_until};

/// `tally run` in a directory, with nothing but the defaults and a free port.
pub(super) fn run(dir: &Path, change: impl FnOnce(&mut Site)) -> (Site, Service) {
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir);
    let listen = site.listen.clone();
    site.bare = true;
    site.flags = ["run", "--listen", &listen].map(str::to_owned).into();
    change(&mut site);
    let service = site.start();
    (site, service)
}

#[test]
fn an_empty_directory_is_enough() {
    let dir = Scratch::new();
    let (site, service) = run(dir.path(), |_| {});
    let told = "there is no topology.yaml here: the built-in topology is used; `tally init` writes it to a file";
    assert!(site.messages().contains(told), "{}", site.messages());
    assert_eq!(Client(site.listen.clone()).get("/v1/rankings/hot").unwrap().status, 200);
    assert_eq!(service.terminate().0.code(), Some(0));
    let output = tally(dir.path(), "check");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("the built-in topology: well formed: 14 processors"), "{said}");
    assert_eq!(tally(dir.path(), "describe").status.code(), Some(0));

    // The built-in topology as a file: counting continues when one replaces the other.
    assert_eq!(tally(dir.path(), "init").status.code(), Some(0));
    assert_eq!(fs::read_to_string(dir.path().join("topology.yaml")).unwrap(), SHIPPED_TOPOLOGY);
    let before = site.messages().matches(told).count();
    let (site, service) = run(dir.path(), |_| {});
    assert_eq!(site.messages().matches(told).count(), before);
    assert_eq!(service.terminate().0.code(), Some(0));
}

#[test]
fn init_writes_a_file_with_comments_and_never_over_another() {
    let dir = Scratch::new();
    for (line, code, said) in [
        ("init", 0, "topology.yaml: written. Change it, validate it with `tally check`, and start it"),
        ("init", 1, "topology.yaml: is there already: move it away, or name another file"),
        ("init mine.yaml", 0, "mine.yaml: written. "),
        ("check --topology mine.yaml", 0, "mine.yaml: well formed: 14 processors"),
        ("init no/such/folder.yaml", 2, "no/such/folder.yaml: No such file or directory (os error 2)"),
        ("init .", 1, ".: is there already"),
    ] {
        let output = tally(dir.path(), line);
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{line}: {all}");
        assert!(all.starts_with(said), "{line}: {all}");
    }
    let text = fs::read_to_string(dir.path().join("mine.yaml")).unwrap();
    assert!(text.lines().filter(|line| line.contains("# ")).count() > 10, "{text}");
    // A named file must exist, and an existing one must be readable.
    let refused = |line: &str| tally(dir.path(), line).status.code();
    assert_eq!(refused("check --topology gone.yaml"), Some(2));
    fs::remove_file(dir.path().join("topology.yaml")).unwrap();
    fs::create_dir(dir.path().join("topology.yaml")).unwrap();
    assert_eq!(refused("check"), Some(2));
}

/// The values of `-e NAME=VALUE` of a `docker run` line.
fn environment(line: &str) -> Vec<(String, String)> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let given = words.windows(2).filter(|pair| pair[0] == "-e");
    given.map(|pair| pair[1].split_once('=').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// Every `docker run` of the documentation starts with the image's environment and that of the line.
#[test]
fn the_container_starts_with_the_commands_that_are_printed() {
    let (dockerfile, operations) = (include_str!("../../deploy/Dockerfile"), include_str!("../../docs/operations.md"));
    let settings = |text: &str| {
        let words = text.split(['\n', ' ']).filter_map(|word| word.trim_end_matches('\\').split_once('='));
        words
            .filter(|(name, _)| name.starts_with("TALLY_"))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect::<Vec<_>>()
    };
    let image = settings(&dockerfile[dockerfile.find("\nENV ").unwrap()..]);
    assert!(image.iter().any(|(name, _)| name == "TALLY_LISTEN"), "{image:?}");
    let lines = dockerfile.lines().chain(operations.lines());
    let lines: Vec<_> = lines.filter(|line| line.trim_start_matches(['#', ' ']).starts_with("docker run ")).collect();
    assert!(lines.len() >= 2, "{lines:?}");
    for line in lines {
        assert!(line.contains(" -v tally:/data tally"), "{line}");
        let dir = stage();
        let (site, service) = run(dir.path(), |site| {
            let port = site.listen.rsplit(':').next().unwrap().to_owned();
            site.flags = vec!["run".to_owned()];
            // What the image has elsewhere is here in a directory.
            let here = dir.path().display().to_string();
            let page = dir.path().join("page");
            let place = |value: String| {
                let value = value.replace("/usr/share/tally/web", &page.display().to_string());
                let value = value.replace("/etc/tally", &here);
                value.replace("/data", &here).replace(":8080", &format!(":{port}"))
            };
            fs::create_dir(&page).unwrap();
            fs::write(page.join("index.html"), "<html></html>").unwrap();
            let all = image.iter().cloned().chain(environment(line));
            site.environment = all.map(|(name, value)| (name, place(value))).collect();
        });
        let client = Client(site.listen.clone());
        wait_until(line, || client.get("/readyz").is_ok_and(|answer| answer.status == 200).then_some(()));
        assert_eq!(service.terminate().0.code(), Some(0), "{line}");
    }
}

/// Where promtool is installed (Debian's package `prometheus`) it has no complaint about names, units and help texts.
#[test]
fn prometheus_has_no_complaint_about_the_metrics() {
    let dir = Scratch::new();
    let (site, service) = run(dir.path(), |_| {});
    let client = Client(site.listen.clone());
    let event = br#"{"event_id":"e1","type":"view","actor_id":"u1","subject_id":"article:7"}"#;
    assert_eq!(client.post("/v1/events", "application/json", event).unwrap().status, 202);
    client.wait_until_applied();
    let metrics = || String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
    wait_until("a task to have a clock", || metrics().contains("\ntally_task_clock_seconds{").then_some(()));
    let text = metrics();
    for begin in [
        "tally_build_info{revision=\"",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_virtual_memory_bytes ",
        "process_start_time_seconds ",
        "process_open_fds ",
        "process_max_fds ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(begin)), "{begin}: {text}");
    }
    let version = format!(",version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    drop(service);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = promtool.spawn() else {
        println!("skipped: promtool (Debian's package prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
