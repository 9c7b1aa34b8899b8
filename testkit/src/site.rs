//! `tally run`, and the roles apart.

use crate::{Client, PATIENCE, quiet_port, repository, wait_until};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A directory with everything that a service keeps, and the address it serves.
pub struct Site {
    /// The program.
    pub binary: PathBuf,
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Where it serves, `host:port`.
    pub listen: String,
    /// The directory of checkpoints.
    pub state_dir: PathBuf,
    /// By default the shipped one.
    pub topology: PathBuf,
    /// More flags.
    pub flags: Vec<String>,
    /// More of the environment.
    pub environment: Vec<(String, String)>,
    /// A role on services of its own, with all of its flags but `--topology` and `--listen`; None is `run` on the
    /// embedded default.
    pub role: Option<Vec<String>>,
    /// Run within `dir` with nothing but `flags` and `environment`.
    pub bare: bool,
    /// Options of a tmpfs that only the service sees, mounted on its state directory.
    pub state_mount: Option<String>,
    /// The directory on which that is mounted instead; it exists.
    pub mounted_at: Option<PathBuf>,
    /// Nothing more fits there from the beginning, until its file `filler` is removed.
    pub state_filled: bool,
}

impl Site {
    /// A service in a directory of its own; it is not started.
    pub fn new(binary: impl Into<PathBuf>, dir: &Path) -> Self {
        let listen = format!("127.0.0.1:{}", quiet_port());
        let state_dir = dir.join("state");
        let topology = repository().join("topology.yaml");
        Self {
            binary: binary.into(),
            dir: dir.to_owned(),
            listen,
            state_dir,
            topology,
            flags: Vec::new(),
            environment: Vec::new(),
            role: None,
            bare: false,
            state_mount: None,
            mounted_at: None,
            state_filled: false,
        }
    }

    /// The directory of the embedded log.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The SQLite database.
    pub fn database_file(&self) -> PathBuf {
        self.dir.join("tally.db")
    }

    /// The address of the SQLite database.
    pub fn database_url(&self) -> String {
        format!("sqlite:{}", self.database_file().display())
    }

    /// The output of the process so far.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.messages_file()).unwrap_or_default()
    }

    fn messages_file(&self) -> PathBuf {
        self.dir.join("messages.jsonl")
    }

    /// The command line.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        // `examples/exact.rs` is `tally` under this name.
        command.arg0("tally");
        command.env_remove("RUST_LOG");
        if self.bare {
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALLY_")) {
                command.env_remove(name);
            }
            let environment = self.environment.iter().map(|(name, value)| (name, value));
            command.current_dir(&self.dir).args(&self.flags).envs(environment);
            return command;
        }
        // Without limits, since the workloads of tests exceed those for people; `flags` can set them.
        command.env("TALLY_LIMIT_ACTOR", "0");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(role) = &self.role {
            command.args(role).arg("--topology").arg(&self.topology).args(["--listen", &self.listen]).args(&self.flags);
            return command;
        }
        command.args(["run", "--listen", &self.listen]).arg("--topology").arg(&self.topology);
        command.arg("--log").arg(format!("embedded:{}", self.log_dir().display()));
        command.arg("--database").arg(self.database_url());
        command.arg("--state").arg(&self.state_dir).args(&self.flags);
        match &self.state_mount {
            Some(options) => self.mounted(&command, options),
            None => command,
        }
    }

    /// The same command in a view of the file systems of its own.
    fn mounted(&self, command: &Command, options: &str) -> Command {
        let state = self.mounted_at.as_ref().unwrap_or(&self.state_dir).display();
        let fill = format!("head -c 100000000 /dev/zero > {state}/filler 2>/dev/null; ");
        let fill = if self.state_filled { fill.as_str() } else { "" };
        let script = format!("mount -t tmpfs -o {options} tmpfs {state} && {{ {fill}exec \"$@\"; }}");
        let mut mounted = Command::new("unshare");
        mounted.args(["-m", "sh", "-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => mounted.env(name, value),
                None => mounted.env_remove(name),
            };
        }
        mounted
    }

    /// Starts the service, without waiting for anything.
    pub fn spawn(&self) -> Service {
        let messages = OpenOptions::new().create(true).append(true).open(self.messages_file()).unwrap();
        let mut child = self.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(messages).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    let _ = tell.send(address.to_owned());
                }
            }
        });
        Service { child, address, ready: false, messages_file: self.messages_file() }
    }

    /// Starts the service and waits until it serves.
    pub fn start(&self) -> Service {
        let mut service = self.spawn();
        service.wait_until_ready();
        service
    }
}

/// A running `tally run`; killed when dropped.
pub struct Service {
    child: Child,
    address: mpsc::Receiver<String>,
    ready: bool,
    messages_file: PathBuf,
}

impl Service {
    /// Waits for the line with its address.
    pub fn wait_until_ready(&mut self) {
        if !self.ready && self.address.recv_timeout(PATIENCE).is_err() {
            let (status, said) = (self.child.try_wait(), fs::read_to_string(&self.messages_file));
            panic!("the service is not ready; status {status:?}; it said {}", said.unwrap_or_default())
        }
        self.ready = true;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time and memory so far, for people.
    pub fn usage(&self) -> String {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default();
        let (stat, status) = (read("stat"), read("status"));
        // Behind the name in parentheses; fields 14 and 15 of proc(5), in ticks of 10 ms.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
        format!(
            "{}.{:02} CPU-seconds, RssAnon {}, VmHWM {}",
            ticks / 100,
            ticks % 100,
            line("RssAnon:"),
            line("VmHWM:")
        )
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP or SIGCONT, as `kill` names them.
    pub fn signal(&self, signal: &str) {
        crate::signal(self.child.id(), signal);
    }

    /// SIGTERM; how it ended, and how long that took.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal("-TERM");
        (wait_until("the service to end", || self.child.try_wait().unwrap()), begun.elapsed())
    }

    /// Whether it ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Waits until every store contains what follows from everything in the log.
    pub fn wait_until_applied(&self) {
        self.wait_until_applied_while(|| {});
    }

    /// The same; `check` is run now and then.
    pub fn wait_until_applied_while(&self, mut check: impl FnMut()) {
        let (mut moved, mut before) = (Instant::now(), None);
        loop {
            let lags = self.lags();
            if lags.as_ref().is_some_and(|lags| lags.iter().all(|(lag, _)| *lag == Some(0))) {
                return;
            }
            check();
            // A large workload takes its time; what does not move at all never ends.
            if lags.is_some() && lags != before {
                (moved, before) = (Instant::now(), lags);
            }
            assert!(moved.elapsed() < PATIENCE, "not moved for {PATIENCE:?}: records and ends {before:?}");
            // Between two requests: progress is what is waited for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where the input ends, by partition; None while some store lacks something that follows from it.
    pub fn ends_at_rest(&self) -> Option<Vec<u64>> {
        let end = |(lag, end): &(Option<u64>, u64)| (*lag == Some(0)).then_some(*end);
        self.lags()?.iter().map(end).collect()
    }

    /// Per partition, how many records the slowest store lacks (if known) and the end of the input; None without an
    /// answer.
    pub fn lags(&self) -> Option<Vec<(Option<u64>, u64)>> {
        let answer = self.get("/v1/progress").ok().filter(|answer| answer.status == 200)?.json();
        let partitions = answer["partitions"].as_array().unwrap();
        assert!(!partitions.is_empty());
        Some(partitions.iter().map(|of| (of["lag_records"].as_u64(), of["end"].as_u64().unwrap())).collect())
    }

    /// The first hundred of a board, with scores in thousandths, and the clock that the answer is as of.
    pub fn board(&self, board: &str) -> (i64, Vec<(String, i64)>) {
        let answer = self.get(&format!("/v1/rankings/{board}?limit=100")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let item = |item: &serde_json::Value| {
            let score = (item["score"].as_f64().unwrap() * 1_000.0).round();
            (item["subject_id"].as_str().unwrap().to_owned(), score as i64)
        };
        let as_of = tally_model::parse_ms(answer["as_of"].as_str().unwrap()).unwrap();
        (as_of, answer["items"].as_array().unwrap().iter().map(item).collect())
    }

    /// Sets whether an actor collects a subject; returns the count. None if there is no answer, or the database does
    /// not answer: the outcome is then unknown.
    pub fn collect(&self, subject: &str, actor: &str, active: bool) -> Option<i64> {
        let path = format!("/v1/subjects/{subject}/collects/{actor}");
        let answer = self.exchange(if active { "PUT" } else { "DELETE" }, &path, &[], b"").ok()?;
        if answer.status == 503 {
            return None;
        }
        let (status, answer) = (answer.status, answer.json());
        assert_eq!((status, &answer["active"]), (200, &active.into()), "{answer}");
        Some(answer["count"].as_i64().unwrap())
    }

    /// The totals of up to 100 subjects, but for those of aggregates, which may be no 64-bit integers.
    pub fn counters(&self, subjects: &[String]) -> HashMap<String, BTreeMap<String, i64>> {
        let query: Vec<_> = subjects.iter().map(|subject| format!("subject_id={subject}")).collect();
        let answer = self.get(&format!("/v1/counters?{}", query.join("&"))).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        let items = answer["items"].as_array().unwrap().iter();
        items
            .map(|item| {
                let counters = item["counters"].as_object().unwrap().iter();
                let counters = counters.filter(|(metric, _)| !metric.contains('.'));
                let counters = counters.map(|(metric, value)| (metric.clone(), value.as_i64().expect("an integer")));
                (item["subject_id"].as_str().unwrap().to_owned(), counters.collect())
            })
            .collect()
    }
}
