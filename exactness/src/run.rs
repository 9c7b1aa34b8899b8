//! A workload through the real binary, perhaps with SIGKILLs on the way, and everything that came of it held against the
//! naive model.

use crate::feed::{Feed, WorkloadFile};
use crate::naive::{
    CLOSED_AFTER_MS, Differences, Held, Model, Moment, Stored, StoredBoards, TOGGLE_WINDOW_MS, TopicAggregates,
    TopicBoards, compare_boards, compare_counters, compare_stored, read_topic, with_aggregates,
};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};
use tally::workload::Random;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{Log, TopicPartition};
use tally_testkit::boards::{self, Rules};
use tally_testkit::{Client, Sender, Service, Site, now_ms, wait_until};

/// A process with these in its environment always writes snapshots of its changelogs, and evicts all state that it can.
pub(crate) const ALWAYS: [[&str; 2]; 2] = [["TALLY_TEST_SNAPSHOT_TAIL_BYTES", "0"], ["TALLY_TEST_STATE_BYTES", "0"]];
/// How long a process may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A run, and its report.
pub struct ExactRun<'a> {
    /// The program.
    pub binary: &'a Path,
    /// Where everything is kept.
    pub dir: &'a Path,
    /// At least: it sends on until all kills and moments are done.
    pub events: u64,
    /// Seed of the workload and of the moments of the kills.
    pub seed: u64,
    /// SIGKILLs at random moments while it sends; with any, snapshots of changelogs are always written,
    /// and state is always evicted.
    pub kills: u32,
    /// So many times while it sends nothing more is sent, until everything is counted; then all boards are compared. Once
    /// more at the end.
    pub moments: u32,
    /// Events a second; None is as fast as it goes.
    pub rate: Option<u64>,
    /// Takes a line about each step.
    pub say: &'a dyn Fn(String),
}

impl ExactRun<'_> {
    /// Runs, and compares. Panics where something fails that is no difference.
    pub fn run(&self) -> Differences {
        let file = WorkloadFile::new(self.dir, self.seed);
        let mut site = site(self.binary, self.dir);
        if self.kills > 0 {
            site.environment.extend(ALWAYS.map(|variable| variable.map(str::to_owned).into()));
        }
        let begun = Instant::now();
        let mut moments = Vec::new();
        let (service, file) = self.send(&site, file, &mut moments);
        let client = Client(site.listen.clone());
        client.wait_until_applied();
        let seconds = begun.elapsed().as_secs_f64();
        (self.say)(format!("applied after {seconds:.1} s: {:.0} events/s", file.lines as f64 / seconds));
        (self.say)(format!("the service used {}", service.usage()));
        let rest = moment(&site);
        wait_until_released(closed_ms(&rest), || Stored::clock_ms(&site.database_url()));
        moments.push(rest);
        let served = client.counters(&sample(self.seed));
        let (aggregates, late) = (aggregates_served(&client), late_for_windows(&client));
        stop(service);
        let mut differences = Differences::default();
        let (log, stored) = (open(&site), Stored::read(&site.database_url()));
        let mut model = Model::with_aggregates();
        model.read(&log);
        compare_stored(&model, &stored, &mut differences);
        compare_aggregates(&model, &log, &stored, &aggregates, &mut differences);
        drop(log);
        if self.kills == 0 {
            compare_late(&model, &late, &mut differences);
        }
        compare_boards_of(&site, &model, moments, &mut differences);
        compare_counters(&model, &served, &mut differences);
        compare_ids(&model, &file, &mut differences);
        differences.compared("changelogs shortened", shortened(&site));
        differences
    }

    /// Sends with a kill now and then, and a pause; returns what was sent.
    fn send(&self, site: &Site, file: WorkloadFile, moments: &mut Vec<Moment>) -> (Service, WorkloadFile) {
        let mut service = site.start();
        let rate = self.rate.map(|rate| rate.to_string());
        let flags: Vec<&str> = rate.iter().flat_map(|rate| ["--rate", rate]).chain(["--give-up", "5m"]).collect();
        let (sender, input) = Sender::fed(self.binary, &file.path, &site.listen, &flags);
        let feed = Feed::start(file, self.events, input);
        let mut random = Random::new(self.seed);
        let steps = self.kills.max(self.moments);
        for step in 0..steps {
            // Both are spread evenly over the steps.
            let is_due = |count: u32| (step + 1) * count / steps > step * count / steps;
            if is_due(self.kills) {
                let kill = (step + 1) * self.kills / steps;
                service = self.kill(site, service, &mut random, kill);
            }
            if is_due(self.moments) {
                service.wait_until_ready();
                let part = u64::from(step + 1) * self.events / u64::from(steps + 1);
                if self.kills == 0 {
                    wait_until_sent(site, part);
                }
                sender.pause();
                moments.push(moment(site));
                (self.say)(format!(
                    "moment {}: {} events",
                    moments.len(),
                    moments[moments.len() - 1].ends.iter().sum::<u64>()
                ));
                sender.resume();
            }
        }
        let file = feed.finish();
        let sent = sender.finish();
        (self.say)(format!(
            "sent: {} lines of seed {}, {} of them valid; {}",
            file.lines,
            self.seed,
            file.ids.len(),
            sent.outcome
        ));
        assert_eq!(sent.status.code(), Some(0), "{}", sent.messages);
        assert!(self.kills == 0 || sent.outcome["requests_sent_again"] != 0, "the kills were not felt");
        let (valid, garbage) = (file.ids.len() as u64, file.lines - file.ids.len() as u64);
        assert_eq!((&sent.outcome["accepted"], &sent.outcome["rejected"]), (&valid.into(), &garbage.into()));
        assert_eq!(sent.acknowledged.len() as u64, file.lines, "every line is acknowledged");
        service.wait_until_ready();
        (service, file)
    }

    /// At a random moment: mostly while it serves, at times before that. The last one is surely felt.
    fn kill(&self, site: &Site, mut service: Service, random: &mut Random, kill: u32) -> Service {
        let sending_s = self.events as f64 / self.rate.unwrap_or(100_000) as f64;
        let pause_max_ms = (1_500.0 * sending_s / f64::from(self.kills)) as u64 + 1;
        let early = random.chance(2_000);
        let pause_ms = if early { random.below(150) } else { random.below(pause_max_ms) };
        if !early {
            service.wait_until_ready();
        }
        // The moment is what is tried out here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(pause_ms));
        let when = if early { "its start" } else { "it was ready" };
        (self.say)(format!("kill {kill} of {}: process {}, {pause_ms} ms after {when}", self.kills, service.id()));
        service.kill();
        if kill.is_multiple_of(2) {
            // The next one has the changelogs alone.
            let _ = std::fs::remove_dir_all(site.state_dir.join("generation-1"));
        }
        if kill == self.kills {
            hang_up_once(site);
        }
        site.spawn()
    }
}

/// The busiest subjects, some others, and some without events.
pub(crate) fn sample(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut sample: Vec<_> = (1..=60).map(|n| format!("article:{n}")).collect();
    sample.extend((0..35).map(|_| format!("article:{}", 61 + random.below(19_940))));
    sample.extend(["article:0", "article:20001", "user:u1", "x:y"].map(str::to_owned));
    sample
}

/// The log has every valid event of the file, and no other.
pub(crate) fn compare_ids(model: &Model, file: &WorkloadFile, differences: &mut Differences) {
    let valid: HashSet<_> = file.ids.values().collect();
    for lost in valid.iter().filter(|id| !model.ids.contains(**id)) {
        differences.add(format!("{lost:?} was acknowledged and is not in the log"));
    }
    for foreign in model.ids.iter().filter(|id| !valid.contains(id)) {
        differences.add(format!("{foreign:?} is in the log and is no valid event of the file"));
    }
}

/// A process of its own, with more boards than those that are shipped, and with aggregates.
fn site(binary: &Path, dir: &Path) -> Site {
    let mut site = Site::new(binary, dir);
    site.topology = dir.join("topology.yaml");
    std::fs::write(&site.topology, with_aggregates(&boards::topology())).unwrap();
    site
}

/// Takes the place of a process that was killed until the sender has come, and hangs up: what it sent goes again.
fn hang_up_once(site: &Site) {
    let listener = TcpListener::bind(&site.listen).expect("the port is free");
    listener.set_nonblocking(true).unwrap();
    let (mut sender, _) = wait_until("the sender to come again", || listener.accept().ok());
    sender.set_nonblocking(false).unwrap();
    // A connection without a request may be a probe. The beginning of one is enough.
    let _ = sender.read(&mut [0]);
}

fn wait_until_sent(site: &Site, events: u64) {
    let client = Client(site.listen.clone());
    let answer = || client.get("/v1/progress").ok().filter(|answer| answer.status == 200).map(|answer| answer.json());
    let end = |partition: &serde_json::Value| partition["end"].as_u64().unwrap();
    wait_until("a part to be sent", || {
        let sent: u64 = answer()?["partitions"].as_array()?.iter().map(end).sum();
        (sent >= events).then_some(())
    });
}

/// Waits until everything is counted, and reads all boards as they are served and stored.
fn moment(site: &Site) -> Moment {
    let (client, rules) = (Client(site.listen.clone()), boards::rules());
    let stored = || StoredBoards::read(&site.database_url()).held("database");
    rest(&client, &rules, || Some(vec![served(&client, &rules), stored()]))
}

/// Reads the stores until a read falls into a moment at which no board ages and no event is held back. While nothing is
/// sent, there is one soon: clocks are published every few seconds, and boards age by the minute.
pub(crate) fn rest(client: &Client, rules: &[Rules], look: impl Fn() -> Option<Vec<Held>>) -> Moment {
    let mut seen = (Vec::new(), 0);
    wait_until("rest", || {
        let ends = client.ends_at_rest()?;
        if seen.0 != ends {
            seen = (ends.clone(), released_ms());
        }
        let released_ms = seen.1;
        let (held, at_ms) = (look()?, now_ms());
        let settled = held.iter().all(|held| held.clock_ms >= released_ms && held.is_settled(at_ms, rules));
        // What was still on its way to the log when it looked is there now.
        (settled && client.ends_at_rest().as_ref() == Some(&ends)).then_some(Moment { ends, at_ms, released_ms, held })
    })
}

/// All boards as the API gives them.
pub(crate) fn served(client: &Client, rules: &[Rules]) -> Held {
    let boards = rules.iter().map(|rules| (rules.board.clone(), client.board(&rules.board))).collect::<Vec<_>>();
    let clock_ms = boards.iter().map(|(_, (as_of_ms, _))| *as_of_ms).min().unwrap_or(i64::MIN);
    Held::new("boards served", clock_ms, boards.into_iter().map(|(name, (_, items))| (name, items)).collect())
}

/// Boards at all moments, and what the topic held then. No process may run.
fn compare_boards_of(site: &Site, model: &Model, mut moments: Vec<Moment>, differences: &mut Differences) {
    let (rules, mut topic) = (boards::rules(), TopicBoards::default());
    let log = open(site);
    read_topic(&log, "rankings", |record| topic.take(record, &mut moments));
    topic.finish(&mut moments);
    compare_boards(model, &moments, &rules, differences);
    topic.compare_versions("database", &StoredBoards::read(&site.database_url()).boards, differences);
    differences.compared("records of boards", topic.records);
}

/// The log of a site. No process may run.
fn open(site: &Site) -> EmbeddedLog {
    EmbeddedLog::open(site.log_dir(), EmbeddedOptions::default()).expect("no other process has the log open")
}

/// How many changelogs of tasks have lost what a snapshot replaced. No process may run.
fn shortened(site: &Site) -> usize {
    let log = open(site);
    let topics = ["user-actions", "by-subject_id", "by-board"].map(|name| format!("tally-{name}-changelog"));
    let partitions = topics.iter().flat_map(|topic| {
        let count = log.partitions(topic).expect("the topic exists");
        (0..count).map(|partition| TopicPartition::new(topic.as_str(), partition))
    });
    partitions.filter(|partition| log.bounds(partition).expect("bounds").0 > 0).count()
}

/// SIGTERM, and what is promised of it.
pub fn stop(service: Service) {
    let (status, took) = service.terminate();
    assert_eq!(status.code(), Some(0), "after SIGTERM");
    assert!(took < STOP_MAX, "stopping took {took:?}");
}

/// From this clock on nothing of what was sent so far is held back by a rate rule.
pub fn released_ms() -> i64 {
    now_ms() + TOGGLE_WINDOW_MS
}

/// Waits until the tables have what was held back until then.
pub fn wait_until_released(released_ms: i64, clock_ms: impl Fn() -> i64) {
    wait_until("windows to end", || (clock_ms() >= released_ms).then_some(()));
}

/// From this clock on no event is held back, and no window is open.
pub(crate) fn closed_ms(rest: &Moment) -> i64 {
    rest.released_ms.max(rest.at_ms) + CLOSED_AFTER_MS
}

/// What the API gives for some subjects of aggregates.
pub(crate) fn aggregates_served(client: &Client) -> Vec<u8> {
    let subjects = ["article:1", "campaign:spring", "campaign:summer", "type:view", "type:like", "type:any"];
    let visitors = (4..80).map(|n| format!("visitor:v{n}"));
    let subjects = subjects.into_iter().map(str::to_owned).chain(visitors);
    let query: Vec<_> = subjects.map(|subject| format!("subject_id={subject}")).collect();
    client.get(&format!("/v1/counters?{}", query.join("&"))).expect("an answer").body
}

/// Every total and window of aggregates: model, topics, tables, API.
pub(crate) fn compare_aggregates(
    model: &Model,
    log: &dyn Log,
    stored: &Stored,
    served: &[u8],
    differences: &mut Differences,
) {
    let mut topics = TopicAggregates::default();
    read_topic(log, "counters", |record| topics.take_totals(record));
    read_topic(log, "counter-windows", |record| topics.take_window(record, differences));
    model.aggregates.as_ref().expect("aggregates").compare(&topics, differences);
    topics.compare(&stored.aggregates, differences);
    topics.compare_served(served, differences);
}

/// The lines of [`tally_late_for_window_total`](../../docs/metrics.md): node, window and count.
fn late_for_windows(client: &Client) -> BTreeMap<(String, String), u64> {
    let answer = client.get("/metrics").expect("an answer").body;
    let text = String::from_utf8(answer).expect("text");
    let parse = |line: &str| {
        let (labels, count) = line.strip_prefix("tally_late_for_window_total{")?.split_once("} ")?;
        let value = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        Some(((value("node")?, value("window")?), count.parse().ok()?))
    };
    text.lines().filter_map(parse).filter(|(_, count)| *count > 0).collect()
}

/// What is counted since the start of the process: it was not killed.
fn compare_late(model: &Model, found: &BTreeMap<(String, String), u64>, differences: &mut Differences) {
    let right = model.aggregates.as_ref().expect("aggregates").late();
    differences.compared("late for windows", right.values().sum::<u64>() as usize);
    if *found != right {
        differences.add(format!("late for windows: {found:?} is counted, {right:?} is right"));
    }
}

/// The model of what the log of a site without aggregates holds, with everything in the database compared to it. No
/// process may run.
pub fn compare(site: &Site, differences: &mut Differences) -> Model {
    let mut model = Model::default();
    model.read(&open(site));
    compare_stored(&model, &Stored::read(&site.database_url()), differences);
    model
}

/// How many verdicts there are of each kind.
pub fn verdict_kinds(model: &Model) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    model.verdicts.values().for_each(|verdict| *kinds.entry(verdict.kind.as_str()).or_insert(0) += 1);
    kinds
}
