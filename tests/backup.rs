//! `tally backup` and `tally restore` on the real binary, by the runbook of docs/operations.md.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use tally::workload::Random;
use tally_exactness::naive::{Differences, Model, Stored, read_history};
use tally_exactness::{Feed, WorkloadFile, compare, released_ms, stop, wait_until_released};
use tally_testkit::{Client, Scratch, Sender, Site, repository, signal, wait_for, wait_until};

/// Lines that are acknowledged before the backup is made.
const BEFORE: usize = 8_000;
/// And at least so many afterwards.
const AFTER: usize = 2_000;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tally"))
}

/// The commands of the runbook: those to make a backup, and those to restore it.
fn runbook() -> [Vec<String>; 2] {
    let document = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let (_, section) = document.split_once("\n## Backup and restore\n").unwrap();
    let section = section.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = |block: &str| block.lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect();
    blocks.map(lines).collect::<Vec<_>>().try_into().unwrap()
}

/// A directory in which `tally` is started as in the runbook: everything is in `data`.
struct Stage {
    dir: Scratch,
    site: Site,
}

impl Stage {
    fn new() -> Self {
        let dir = Scratch::new();
        let mut site = Site::new(binary(), dir.path());
        site.bare = true;
        site.flags = ["run", "--listen", &site.listen].map(str::to_owned).into();
        site.environment = vec![("TALLY_LIMIT_ACTOR".to_owned(), "0".to_owned())];
        fs::create_dir(dir.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(binary(), dir.path().join("bin/tally")).unwrap();
        Self { dir, site }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The files as the tests of `tally run` name them.
    fn data(&self) -> Site {
        Site::new(binary(), &self.path("data"))
    }

    fn client(&self) -> Client {
        Client(self.site.listen.clone())
    }

    /// Runs a line as an operator would.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALLY_")) {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).args(["-c", line]).current_dir(self.dir.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// What a line prints that succeeds.
    #[track_caller]
    fn done(&self, line: &str) -> String {
        let output = self.run(line);
        let [printed, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(output.status.code(), Some(0), "{line}: {printed}{errors}");
        println!("$ {line}\n{printed}");
        printed
    }

    /// Why a line is refused.
    #[track_caller]
    fn refused(&self, line: &str, code: i32, words: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{line}: {errors}");
        assert!(errors.contains(words), "{line}: {errors}");
        errors
    }
}

fn like(client: &Client, id: &str, subject: &str) -> String {
    let event = json!([{"event_id": id, "type": "like", "actor_id": format!("u-{id}"), "subject_id": subject}]);
    let answer = client.post("/v1/events", "application/json", event.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.json());
    answer.json()["receipt"].as_str().unwrap().to_owned()
}

/// The status of a receipt, and the answer.
fn receipt(client: &Client, receipt: &str) -> (u16, Value) {
    let answer = client.get(&format!("/v1/receipts/{receipt}")).unwrap();
    (answer.status, answer.json())
}

/// Switches collects on and off until it is over.
fn collect(client: &Client, over: &AtomicBool, done: &AtomicU32) {
    let mut random = Random::new(9);
    while !over.load(Ordering::Relaxed) {
        let subject = format!("article:{}", random.below(20));
        let actor = format!("u{}", random.below(300));
        if change(client, &subject, &actor, random.chance(6_000)) {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the change was confirmed; the process may be killed meanwhile.
fn change(client: &Client, subject: &str, actor: &str, active: bool) -> bool {
    let path = format!("/v1/subjects/{subject}/collects/{actor}");
    let answer = client.exchange(if active { "PUT" } else { "DELETE" }, &path, &[], b"");
    answer.is_ok_and(|answer| answer.status == 200)
}

/// The log and everything that is stored agree, event by event.
fn assert_exact(stage: &Stage) -> Model {
    let mut differences = Differences::default();
    let model = compare(&stage.data(), &mut differences);
    println!("{differences}");
    assert!(differences.is_empty(), "{differences}");
    assert!(differences.compared["collects"] > 50, "{differences}");
    model
}

fn wait_until_counted(stage: &Stage) {
    let url = stage.data().database_url();
    stage.client().wait_until_applied();
    wait_until_released(released_ms(), || Stored::clock_ms(&url));
    stage.client().wait_until_applied();
}

#[test]
fn a_backup_made_under_load_is_restored_after_a_kill_and_goes_on_exactly() {
    let stage = Stage::new();
    let client = stage.client();
    let [backup, restore] = runbook();
    let mut service = stage.site.start();
    let mut receipts = vec![like(&client, "before", "article:receipts")];

    let file = WorkloadFile::new(stage.dir.path(), 11);
    let flags = ["--give-up", "500ms", "--rate", "3000"];
    let (sender, input) = Sender::fed(binary(), &file.path, &stage.site.listen, &flags);
    // It never ends by itself.
    let feed = Feed::start(file, 1_000_000, input);
    let (over, collected) = (AtomicBool::new(false), AtomicU32::new(0));
    let acknowledged = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| collect(&client, &over, &collected));
        }
        wait_for("events and collects before the backup", || {
            sender.acknowledged().len() > BEFORE && collected.load(Ordering::Relaxed) > 200
        });
        let acknowledged = sender.acknowledged();
        backup.iter().for_each(|line| drop(stage.done(line)));
        let at_end = sender.acknowledged().len();
        assert!(at_end > acknowledged.len(), "nothing was sent while the backup was made");
        receipts.push(like(&client, "after", "article:receipts"));
        let collected_before = collected.load(Ordering::Relaxed);
        wait_for("events and collects after the backup", || {
            sender.acknowledged().len() > at_end + AFTER && collected.load(Ordering::Relaxed) > collected_before + 100
        });
        signal(service.id(), "-KILL");
        wait_until("the process to end", || service.ended());
        over.store(true, Ordering::Relaxed);
        acknowledged
    });
    drop(sender.finish());
    let file = feed.finish();

    let (last, lines) = restore.split_last().unwrap();
    assert_eq!(last, "tally run");
    let printed: String = lines.iter().map(|line| stage.done(line)).collect();
    assert!(printed.contains("is now log") && printed.contains("no damage: "), "{printed}");
    let service = stage.site.start();
    for receipt_text in &receipts {
        let (status, answer) = receipt(&client, receipt_text);
        assert_eq!((status, &answer["type"]), (410, &json!("urn:tally:problem:unknown-log")), "{answer}");
    }
    wait_until_counted(&stage);
    assert_eq!(client.counters(&["article:receipts".to_owned()])["article:receipts"]["likes"], 1, "the one before");
    stop(service);
    let model = assert_exact(&stage);
    let lost: Vec<_> =
        acknowledged.iter().filter_map(|line| file.ids.get(line)).filter(|id| !model.ids.contains(*id)).collect();
    assert!(lost.is_empty(), "{} events from before the backup are lost: {:?}", lost.len(), &lost[..lost.len().min(5)]);
    let valid: std::collections::HashSet<_> = file.ids.values().collect();
    let missing = valid.iter().filter(|id| !model.ids.contains(**id)).count();
    assert!(missing > AFTER / 2, "what came after the backup is not there: {missing} events are missing");

    // What the lost log had, senders send again: it counts once.
    let service = stage.site.start();
    let sent = Sender::spawn(binary(), &file.path, &stage.site.listen, &[]).finish();
    assert_eq!(sent.status.code(), Some(0), "{}", sent.messages);
    let renewed = like(&client, "after", "article:receipts");
    wait_until("the receipt to be applied", || {
        let (status, answer) = receipt(&client, &renewed);
        assert_eq!(status, 200, "{answer}");
        (answer["state"] == "applied").then_some(())
    });
    assert!(change(&client, "article:1", "u-again", true));
    wait_until_counted(&stage);
    assert_eq!(client.counters(&["article:receipts".to_owned()])["article:receipts"]["likes"], 2);
    stop(service);
    let model = assert_exact(&stage);
    // The last line may have reached neither the sender nor the file.
    let lines = fs::read(&file.path).unwrap().iter().filter(|byte| **byte == b'\n').count() as u64;
    let sent_again = file.ids.iter().filter(|(line, _)| **line <= lines);
    let missing: Vec<_> = sent_again.filter(|(_, id)| !model.ids.contains(*id)).collect();
    assert!(missing.is_empty() && lines + 1 >= file.lines, "{lines} of {} lines: {missing:?}", file.lines);
}

/// A process that has counted something and was stopped.
fn small() -> Stage {
    let stage = Stage::new();
    let service = stage.site.start();
    let receipts: Vec<_> = (0..30).map(|number| like(&stage.client(), &format!("e{number}"), "article:7")).collect();
    assert!(change(&stage.client(), "article:7", "u1", true));
    wait_until("the last event to be counted", || {
        (receipt(&stage.client(), &receipts[29]).1["state"] == "applied").then_some(())
    });
    stop(service);
    stage
}

#[test]
fn a_backup_that_is_damaged_or_cut_short_is_refused_and_nothing_is_restored() {
    let stage = small();
    let printed = stage.done("tally backup --to good");
    assert!(printed.starts_with("good: ") && printed.contains(" records as of 2"), "{printed}");
    for (number, file) in ["log/data.mdb", "tally.db", "manifest.json"].into_iter().enumerate() {
        let path = stage.path("bad").join(file);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            stage.done("rm -rf bad && cp -r good bad");
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, bytes).unwrap();
            let words =
                stage.refused("cd restored && tally restore --from ../bad", 1, &format!("../bad/{file}: is damaged: "));
            assert!(words.trim_end().ends_with("use another backup"), "{words}");
            let left: Vec<_> = fs::read_dir(stage.path("restored/data")).into_iter().flatten().collect();
            assert!(left.is_empty(), "{file}: {left:?}");
        };
        stage.done("mkdir -p restored");
        let mut random = Random::new(number as u64);
        // The last byte of the manifest is a newline that means nothing.
        let bits = (fs::metadata(stage.path("good").join(file)).unwrap().len() - 1) * 8;
        for _ in 0..4 {
            let bit = random.below(bits) as usize;
            refused(&|bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        }
        refused(&|bytes| bytes.truncate(bytes.len() / 2));
        stage.done(&format!("rm -rf bad && cp -r good bad && rm bad/{file}"));
        stage.refused("cd restored && tally restore --from ../bad", 1, &format!("../bad/{file}: "));
    }
    // What a backup leaves that was killed.
    stage.done("cp -r good cut.incomplete && rm cut.incomplete/manifest.json");
    stage.refused("cd restored && tally restore --from ../cut.incomplete", 1, "one that was not completed");
    stage.refused("tally backup --to cut", 2, "cut.incomplete: was left by a command that was cut short");
    stage.done("cd restored && tally restore --from ../good && tally log verify");
}

#[test]
fn nothing_is_overwritten() {
    let stage = small();
    stage.done("tally backup --to good");
    stage.refused("tally backup --to good", 2, "good: there is data already");
    stage.refused("tally restore --from good", 2, "there is data already: move it away");
    for kept in ["log", "state", "tally.db"] {
        stage.done(&format!("rm -rf again && mkdir -p again/data && cp -r data/{kept} again/data/"));
        let words = format!("./data/{kept}: there is data already");
        stage.refused("cd again && tally restore --from ../good", 2, &words);
        assert_eq!(fs::read_dir(stage.path("again/data")).unwrap().count(), 1, "{kept}");
    }
    stage.done("mkdir once && cd once && tally restore --from ../good");
    stage.refused("cd once && tally restore --from ../good", 2, "./data/tally.db: there is data already");
    stage.done("mkdir elsewhere");
    stage
        .done("tally restore --from good --log embedded:elsewhere/l --database sqlite:elsewhere/d --state elsewhere/s");
    stage.done("tally log verify elsewhere/l");
    for file in ["good/tally.db", "good/log/data.mdb", "elsewhere/l/data.mdb"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(stage.path(file)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let mut model = Model::default();
    read_history(&stage.path("elsewhere/l"), |record| model.take(record));
    assert_eq!((model.ids.len(), model.records), (30, 31), "likes, and the collect beside them");
}

#[test]
fn what_has_no_file_is_backed_up_by_other_means() {
    let stage = small();
    let pointed = "docs/operations.md, \"Backup on Kafka\"";
    for command in ["backup --to b", "restore --from b"] {
        stage.refused(&format!("tally {command} --log kafka://h:9092"), 2, pointed);
    }
    stage.refused("tally backup --to b --database sqlite:none.db", 2, "none.db: there is no database");
    stage.refused("tally backup --to b --log embedded:none", 2, "none: there is no log");
    let printed = stage.done("tally backup --to logs --database mysql://me:secret@h/db");
    assert!(printed.contains("restore this backup with an older one of the database"), "{printed}");
    let printed = stage.done("mkdir new && cd new && tally restore --from ../logs --database mysql://me:secret@h/db");
    assert!(printed.contains("UPDATE sink_log SET log_id = '"), "{printed}");
    assert!(!stage.path("new/data/tally.db").exists() && stage.path("new/data/log/data.mdb").exists());
    stage.done("tally backup --to both");
    stage.refused("mkdir newer && cd newer && tally restore --from ../both --database mysql://h/db", 2, "sqlite:FILE");
    // A database of another log.
    stage.done("mkdir other && cd other && tally restore --from ../both");
    stage.refused("tally backup --to mixed --database sqlite:other/data/tally.db", 2, "the database belongs to log ");
    assert!(!stage.path("mixed").exists() && !stage.path("mixed.incomplete").exists());
}
