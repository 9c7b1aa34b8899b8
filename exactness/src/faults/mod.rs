//! The pipeline as roles apart on real Kafka, MariaDB and Redis, with faults on the way, and everything that came of it
//! held against the naive model: the topic, the tables, the hashes and what is served.

mod collectors;
mod compare;
mod proxy;
mod services;

pub use proxy::{Cut, Loss, Protocol, Proxy, REQUESTS};
pub use services::{Addresses, Broker, Services, kafka_jars};

use crate::feed::{Feed, WorkloadFile};
use crate::naive::{Differences, Moment, number, with_aggregates};
use crate::run::ALWAYS;
use collectors::Collectors;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tally::workload::Random;
use tally_testkit::{Client, Sender, Service, Site, boards, wait_for};

/// A run, and its report.
pub struct FaultRun<'a> {
    /// The program.
    pub binary: &'a Path,
    /// Where everything is kept.
    pub dir: &'a Path,
    /// At least: it sends on until all kills are done.
    pub events: u64,
    /// Seed of the workload and of the plan of faults.
    pub seed: u64,
    /// Different pairs of actor and subject that must be collected through the API; the run continues until they are.
    pub collects: usize,
    /// SIGKILLs over all roles; about half as many other faults come with them.
    pub kills: u32,
    /// So many times between kills everything is healed and nothing more is sent, until all is counted; then all boards
    /// are compared. Once more at the end.
    pub moments: u32,
    /// How long a process is stopped that others take for dead.
    pub zombie: Duration,
    /// Events a second; None is as fast as it goes.
    pub rate: Option<u64>,
    /// Takes a line about each step.
    pub say: &'a dyn Fn(String),
}

/// The processes, named after their roles.
const ROLES: [(&str, &str); 6] = [
    ("ingest", "ingest"),
    ("process-1", "process"),
    ("process-2", "process"),
    ("sink-1", "sink"),
    ("sink-2", "sink"),
    ("api", "api"),
];

/// A role that runs, or is to be started again.
struct Running {
    name: &'static str,
    site: Site,
    service: Option<Service>,
}

/// Services and roles.
pub struct Cluster {
    /// Kafka, MariaDB and Redis.
    pub services: Services,
    roles: Vec<Running>,
    zombies: Vec<(usize, Instant)>,
}

impl Cluster {
    /// Starts everything, and waits until it is ready.
    pub fn start(binary: &Path, dir: &Path) -> Self {
        let services = Services::start(dir);
        let topology = dir.join("topology.yaml");
        std::fs::write(&topology, with_aggregates(&boards::topology())).unwrap();
        let roles = ROLES.map(|(name, role)| {
            let home = dir.join(name);
            std::fs::create_dir_all(&home).unwrap();
            let mut site = Site::new(binary, &home);
            site.topology.clone_from(&topology);
            site.environment.extend(ALWAYS.map(|variable| variable.map(str::to_owned).into()));
            let mut flags = vec![role.to_owned(), "--log".to_owned(), services.log_url()];
            if matches!(role, "sink" | "api") {
                flags.extend(["--database".to_owned(), services.database_url()]);
                flags.extend(["--cache".to_owned(), services.cache_url()]);
            }
            if matches!(role, "process" | "sink") {
                flags.extend(["--state".to_owned(), site.state_dir.display().to_string()]);
            }
            site.role = Some(flags);
            Running { name, site, service: None }
        });
        let mut cluster = Self { services, roles: roles.into(), zombies: Vec::new() };
        for running in &mut cluster.roles {
            running.service = Some(running.site.spawn());
        }
        cluster.wait_until_ready();
        cluster
    }

    fn wait_until_ready(&mut self) {
        for running in &mut self.roles {
            running.service.as_mut().expect("it runs").wait_until_ready();
        }
    }

    /// Where a role serves, `host:port`.
    pub fn address(&self, name: &str) -> String {
        let running = self.roles.iter().find(|running| running.name == name);
        running.unwrap_or_else(|| panic!("no role {name}")).site.listen.clone()
    }

    /// SIGKILL, and started again at once.
    pub fn kill(&mut self, name: &str) {
        let running = self.roles.iter_mut().find(|running| running.name == name).expect("a role");
        if let Some(service) = running.service.take() {
            service.kill();
        }
        running.service = Some(running.site.spawn());
    }

    /// Processor time and memory of each role, for people.
    pub fn usage(&self) -> String {
        let of = |running: &Running| {
            format!("{}: {}", running.name, running.service.as_ref().map(Service::usage).unwrap_or_default())
        };
        self.roles.iter().map(of).collect::<Vec<_>>().join("; ")
    }

    /// SIGTERM to all, in the order that events flow.
    pub fn stop(&mut self) {
        for running in &mut self.roles {
            if let Some(service) = running.service.take() {
                let (status, took) = service.terminate();
                assert_eq!(status.code(), Some(0), "{} after SIGTERM: {}", running.name, running.site.messages());
                assert!(took < Duration::from_secs(10), "{} took {took:?} to stop", running.name);
            }
        }
    }

    /// Waits until everything that was sent is counted. No process may be stopped.
    fn rest(&mut self) -> Moment {
        let client = self.apply();
        compare::moment(self, &client)
    }

    /// Waits until the log has every collect, and every store contains what follows from everything in the
    /// log.
    fn apply(&mut self) -> Client {
        self.check();
        self.wait_until_ready();
        let database = self.services.direct.mariadb.clone();
        wait_for("the outbox to be empty", || number(&database, "SELECT COUNT(*) FROM outbox") == 0);
        let client = Client(self.address("api"));
        client.wait_until_applied_while(|| self.check());
        client
    }

    /// A role that ended by itself is a failure, whatever the fault. But one that finds no log when it starts reports that and
    /// ends, to be started again by its supervisor.
    fn check(&mut self) {
        for running in &mut self.roles {
            if let Some(status) = running.service.as_mut().and_then(Service::ended) {
                let messages = running.site.messages();
                let message = messages.lines().last().unwrap_or_default();
                let waits = status.code() == Some(1) && message.contains("the log does not answer");
                assert!(waits, "{} ended by itself, {status}: {}", running.name, last(&messages));
                running.service = Some(running.site.spawn());
            }
        }
    }

    fn wake_zombies(&mut self, all: bool) {
        let roles = &self.roles;
        self.zombies.retain(|(index, until)| {
            let over = all || Instant::now() >= *until;
            if over && let Some(service) = &roles[*index].service {
                service.signal("-CONT");
            }
            !over
        });
    }
}

fn last(text: &str) -> &str {
    &text[text.floor_char_boundary(text.len().saturating_sub(3_000))..]
}

impl FaultRun<'_> {
    /// Runs, and compares. Panics where something fails that is no difference.
    pub fn run(&self) -> Differences {
        let file = WorkloadFile::new(self.dir, self.seed);
        let mut cluster = Cluster::start(self.binary, self.dir);
        (self.say)("everything is ready".to_owned());
        let begun = Instant::now();
        let rate = self.rate.map(|rate| rate.to_string());
        let flags: Vec<&str> = rate.iter().flat_map(|rate| ["--rate", rate]).chain(["--give-up", "5m"]).collect();
        let (sender, input) = Sender::fed(self.binary, &file.path, &cluster.address("ingest"), &flags);
        let feed = Feed::start(file, self.events, input);
        let collectors = Collectors::start(&cluster.address("api"), self.seed);
        let mut moments = Vec::new();
        let done = self.do_harm(&mut cluster, &sender, &collectors, &mut moments);
        let file = feed.finish();
        let sent = sender.finish();
        cluster.wake_zombies(true);
        wait_for("enough to be collected", || {
            cluster.check();
            collectors.pairs() >= self.collects
        });
        let collected = collectors.finish();
        (self.say)(format!(
            "sent: {} lines of seed {}, {} of them valid; {}; {collected} collects were answered",
            file.lines,
            self.seed,
            file.ids.len(),
            sent.outcome
        ));
        assert_eq!(sent.status.code(), Some(0), "{}", sent.messages);
        assert_eq!(sent.acknowledged.len() as u64, file.lines, "every line is acknowledged");
        let client = cluster.apply();
        let seconds = begun.elapsed().as_secs_f64();
        (self.say)(format!("applied after {seconds:.1} s: {:.0} events/s", file.lines as f64 / seconds));
        (self.say)(format!("used: {}", cluster.usage()));
        (self.say)(format!("faults: {done:?}"));
        cluster.check();
        compare::everything(self.seed, &mut cluster, &client, &file, moments)
    }

    /// Faults of all kinds at random moments, until all kills are done.
    fn do_harm(
        &self,
        cluster: &mut Cluster,
        sender: &Sender,
        collectors: &Collectors,
        moments: &mut Vec<Moment>,
    ) -> BTreeMap<String, u32> {
        let mut random = Random::new(self.seed ^ 0x5eed);
        let mut done = BTreeMap::new();
        let mut kills = 0;
        let sending_ms = self.events * 1_000 / self.rate.unwrap_or(50_000).max(1);
        // Two faults for three kills come between them, and take their time.
        let pause_max_ms = sending_ms * 2 / 3 / u64::from(self.kills.max(1)) + 1;
        while kills < self.kills {
            // The moment is what is tried out here; nothing is waited for.
            std::thread::sleep(Duration::from_millis(random.below(pause_max_ms)));
            cluster.wake_zombies(false);
            cluster.check();
            let fault = if random.chance(6_500) {
                kills += 1;
                self.kill_one(cluster, &mut random)
            } else {
                self.disturb(cluster, &mut random)
            };
            (self.say)(format!("kills {kills} of {}: {fault}", self.kills));
            *done.entry(fault.split(':').next().unwrap_or_default().to_owned()).or_default() += 1;
            if (moments.len() as u32) < kills * self.moments / self.kills {
                sender.pause();
                cluster.wake_zombies(true);
                let _collects_are_paused = collectors.hold();
                moments.push(cluster.rest());
                (self.say)(format!("moment {} of {}: all boards are taken down", moments.len(), self.moments));
                sender.resume();
            }
        }
        done
    }

    fn kill_one(&self, cluster: &mut Cluster, random: &mut Random) -> String {
        let (index, name) = loop {
            let index = random.below(ROLES.len() as u64) as usize;
            // A process that is stopped is left to come back as a zombie.
            if !cluster.zombies.iter().any(|(zombie, _)| *zombie == index) {
                break (index, ROLES[index].0);
            }
        };
        // A process that has not begun to serve may be killed as well.
        cluster.kill(ROLES[index].0);
        format!("SIGKILL: {name}")
    }

    fn disturb(&self, cluster: &mut Cluster, random: &mut Random) -> String {
        match random.below(100) {
            0..20 if cluster.zombies.is_empty() => {
                let index = 1 + random.below(4) as usize;
                if let Some(service) = &cluster.roles[index].service {
                    service.signal("-STOP");
                }
                cluster.zombies.push((index, Instant::now() + self.zombie));
                format!("SIGSTOP: {} for {:?}", ROLES[index].0, self.zombie)
            }
            0..60 => {
                let (protocol, requests) = REQUESTS[random.below(REQUESTS.len() as u64) as usize];
                let request = requests[random.below(requests.len() as u64) as usize];
                // The connection of a late request to a database keeps its locks.
                let losses = if protocol == Protocol::Kafka { &Loss::ALL[..] } else { &Loss::ALL[..2] };
                let loss = losses[random.below(losses.len() as u64) as usize];
                let cut = Cut { request, loss };
                let services = &cluster.services;
                let proxy = match protocol {
                    Protocol::Kafka => &services.kafka,
                    Protocol::MySql => &services.mariadb,
                    Protocol::Redis => &services.redis,
                };
                // What was kept before has been late for long enough.
                proxy.deliver();
                proxy.arm(cut);
                format!("cut: {protocol:?} {cut:?}")
            }
            60..70 => {
                cluster.services.restart("kafka");
                "restart: kafka".to_owned()
            }
            70..80 => {
                cluster.services.restart("mariadb");
                "restart: mariadb".to_owned()
            }
            80..90 => {
                cluster.services.restart("redis");
                "restart: redis".to_owned()
            }
            _ => {
                cluster.services.empty_redis();
                "FLUSHALL: redis".to_owned()
            }
        }
    }
}
