//! Kafka, MariaDB and Redis of one's own, behind proxies: to be killed, stopped, emptied and cut off.

use super::proxy::{Protocol, Proxy};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tally_testkit::{deploy_services, quiet_port, services_script};

/// A private set of services; ended when dropped.
pub struct Services {
    dir: PathBuf,
    /// Before Kafka.
    pub kafka: Proxy,
    /// Before MariaDB.
    pub mariadb: Proxy,
    /// Before Redis.
    pub redis: Proxy,
    /// Without the proxies: for the comparison at the end.
    pub direct: Addresses,
}

/// Kafka alone, behind a proxy; ended when dropped.
pub struct Broker {
    dir: PathBuf,
    /// Before it.
    pub proxy: Proxy,
}

impl Broker {
    /// Starts it in a directory; it is ready when this returns.
    pub fn start(dir: &Path) -> Self {
        let dir = dir.join("services");
        let listener = TcpListener::bind(("127.0.0.1", quiet_port())).unwrap();
        let advertised = listener.local_addr().unwrap().to_string();
        let env = script(&dir, "start", &["kafka"], Some(&advertised));
        let proxy = Proxy::start(listener, value(&env, "TALLY_TEST_KAFKA"), Protocol::Kafka);
        Self { dir, proxy }
    }

    /// SIGKILL, and back on the same port with the same data.
    pub fn restart(&self) {
        script(&self.dir, "kill", &["kafka"], None);
        script(&self.dir, "start", &["kafka"], Some(&self.proxy.address.to_string()));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        end(&self.dir);
    }
}

/// Where the services are.
pub struct Addresses {
    /// `host:port`.
    pub kafka: String,
    /// `mysql://…`.
    pub mariadb: String,
    /// `redis://…`.
    pub redis: String,
}

impl Services {
    /// Starts them in a directory; they are ready when this returns.
    pub fn start(dir: &Path) -> Self {
        let dir = dir.join("services");
        let listen = || TcpListener::bind(("127.0.0.1", quiet_port())).unwrap();
        let kafka = listen();
        // A client of Kafka connects to the address that the broker advertises, so the broker advertises the proxy.
        let advertised = kafka.local_addr().unwrap().to_string();
        let env = script(&dir, "start", &["kafka", "mariadb", "redis"], Some(&advertised));
        let direct = Addresses {
            kafka: value(&env, "TALLY_TEST_KAFKA"),
            mariadb: value(&env, "TALLY_TEST_MARIADB"),
            redis: value(&env, "TALLY_TEST_REDIS"),
        };
        let host = |url: &str| {
            let rest = url.rsplit('@').next().unwrap_or(url).trim_start_matches("redis://");
            rest.split('/').next().unwrap_or(rest).to_owned()
        };
        Self {
            kafka: Proxy::start(kafka, direct.kafka.clone(), Protocol::Kafka),
            mariadb: Proxy::start(listen(), host(&direct.mariadb), Protocol::MySql),
            redis: Proxy::start(listen(), host(&direct.redis), Protocol::Redis),
            dir,
            direct,
        }
    }

    /// The address of the log, for tally.
    pub fn log_url(&self) -> String {
        format!("kafka://{}", self.kafka.address)
    }

    /// The address of the database, for tally.
    pub fn database_url(&self) -> String {
        let (before, _) = self.direct.mariadb.split_once('@').unwrap();
        format!("{before}@{}/tally", self.mariadb.address)
    }

    /// The address of the cache, for tally.
    pub fn cache_url(&self) -> String {
        format!("redis://{}", self.redis.address)
    }

    /// SIGKILL, and back on the same port with the same data.
    pub fn restart(&self, service: &str) {
        self.kill(service);
        self.start_again(service);
    }

    /// SIGKILL.
    pub fn kill(&self, service: &str) {
        script(&self.dir, "kill", &[service], None);
    }

    /// Back on the same port with the same data.
    pub fn start_again(&self, service: &str) {
        let advertised = self.kafka.address.to_string();
        script(&self.dir, "start", &[service], Some(&advertised));
    }

    /// SIGSTOP.
    pub fn pause(&self, service: &str) {
        script(&self.dir, "pause", &[service], None);
    }

    /// SIGCONT.
    pub fn resume(&self, service: &str) {
        script(&self.dir, "resume", &[service], None);
    }

    /// FLUSHALL.
    pub fn empty_redis(&self) {
        let client = redis::Client::open(self.direct.redis.as_str()).unwrap();
        let emptied: redis::RedisResult<()> =
            client.get_connection().and_then(|mut connection| redis::cmd("FLUSHALL").query(&mut connection));
        emptied.expect("Redis is emptied");
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        end(&self.dir);
    }
}

fn end(dir: &Path) {
    let _ = Command::new("bash").arg(services_script()).arg("stop").arg(dir).stderr(Stdio::null()).status();
}

/// A line of what the script prints.
fn value(env: &str, name: &str) -> String {
    let line = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{name} is missing in {env}")).to_owned()
}

/// Where Kafka's own tools are.
pub fn kafka_jars() -> String {
    deploy_services(&["jars"], &[]).trim().to_owned()
}

fn script(dir: &Path, verb: &str, services: &[&str], advertised: Option<&str>) -> String {
    let arguments = [&[verb, dir.to_str().unwrap()], services].concat();
    let advertised = advertised.map(|address| ("TALLY_KAFKA_ADVERTISED", address));
    deploy_services(&arguments, advertised.as_slice())
}
