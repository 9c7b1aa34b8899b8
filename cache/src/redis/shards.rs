//! Connections: one face over a single Redis and a Cluster.
//!
//! A Cluster's client that follows redirections by itself would hide what matters here: that a shard is no longer the
//! process it was. So every master has one plain connection, which never comes back by itself. Whatever goes wrong
//! with one (an error of the connection, a slot that moved, a master that became a replica), all are dropped and
//! opened again, and every holder of progress has to check again which master it belongs to.

use super::address::RedisAddress;
use super::slot::SLOTS;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    RedisError, ServerError, TlsCertificates, Value, cmd,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct RedisTimeouts {
    /// For a connection with its handshake.
    pub connect: Duration,
    /// For the answers to one pipeline.
    pub response: Duration,
}

/// Redis does not do what it should: try again later, on new connections.
#[derive(Clone, Debug, thiserror::Error)]
#[error("redis {node}: {cause}")]
pub struct RedisFailure {
    /// Host and port.
    pub node: Arc<str>,
    /// The cause.
    pub cause: String,
}

/// The master of some slots; of all, where there is no Cluster.
#[derive(Clone)]
struct Shard {
    node: Arc<str>,
    connection: MultiplexedConnection,
}

/// A connection to every master.
#[derive(Clone)]
pub struct Shards {
    shards: Vec<Shard>,
    /// The shard of every slot; empty where there is only one.
    by_slot: Arc<[u16]>,
}

impl Shards {
    /// Connects to every master. In a Cluster every slot must have one.
    pub async fn connect(address: &RedisAddress, timeouts: RedisTimeouts) -> Result<Self, RedisFailure> {
        if !address.cluster {
            let (host, port) = &address.nodes[0];
            let shards = vec![connect(address, host, *port, timeouts).await?];
            return Ok(Self { shards, by_slot: Arc::from([]) });
        }
        let ranges = discover(address, timeouts).await?;
        let mut by_slot = vec![u16::MAX; usize::from(SLOTS)];
        let mut masters = Vec::<(String, u16)>::new();
        for range in ranges {
            let master = masters.iter().position(|master| *master == range.master).unwrap_or_else(|| {
                masters.push(range.master);
                masters.len() - 1
            });
            let slots = usize::from(range.first)..=usize::from(range.last.min(SLOTS - 1));
            by_slot[slots].fill(master as u16);
        }
        if let Some(slot) = by_slot.iter().position(|master| *master == u16::MAX) {
            let node = address.to_string().into();
            return Err(RedisFailure { node, cause: format!("slot {slot} of the Cluster has no master") });
        }
        let mut tasks = JoinSet::new();
        for (at, (host, port)) in masters.into_iter().enumerate() {
            let address = address.clone();
            tasks.spawn(async move { (at, connect(&address, &host, port, timeouts).await) });
        }
        Ok(Self { shards: in_order(tasks).await?, by_slot: by_slot.into() })
    }

    /// How many masters there are.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Never: without a master there is no connection.
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether keys of one script must lie in one slot.
    pub fn is_cluster(&self) -> bool {
        !self.by_slot.is_empty()
    }

    /// The shard of a slot.
    pub fn of(&self, slot: u16) -> usize {
        self.by_slot.get(usize::from(slot)).map_or(0, |shard| usize::from(*shard))
    }

    /// The highest slot of each shard: the one that a resharding by the usual tools moves last.
    pub fn last_slots(&self) -> Vec<u16> {
        if !self.is_cluster() {
            return vec![SLOTS - 1];
        }
        let last = |shard| self.by_slot.iter().rposition(|owner| usize::from(*owner) == shard).unwrap_or_default();
        (0..self.len()).map(|shard| last(shard) as u16).collect()
    }

    /// A shard's host and port.
    pub fn node(&self, shard: usize) -> &Arc<str> {
        &self.shards[shard].node
    }

    /// Sends a pipeline to a shard. Replies are in the order of the commands; an error of one is a
    /// [`Value::ServerError`] among them. What goes wrong with the connection fails all.
    pub async fn ask(&self, shard: usize, pipeline: &Pipeline) -> Result<Vec<Value>, RedisFailure> {
        let Shard { node, connection } = &self.shards[shard];
        let answers = connection.clone().send_packed_commands(pipeline, 0, pipeline.len()).await;
        answers.map_err(|error| failure(node, &error))
    }

    /// Sends a pipeline to each shard named, all at the same time. Replies are in the order of the request.
    pub async fn ask_each(&self, pipelines: Vec<(usize, Pipeline)>) -> Result<Vec<Vec<Value>>, RedisFailure> {
        if let [(shard, pipeline)] = &pipelines[..] {
            return Ok(vec![self.ask(*shard, pipeline).await?]);
        }
        let mut tasks = JoinSet::new();
        for (at, (shard, pipeline)) in pipelines.into_iter().enumerate() {
            let shards = self.clone();
            tasks.spawn(async move { (at, shards.ask(shard, &pipeline).await) });
        }
        in_order(tasks).await
    }

    /// What a shard answered to one command, unless it was an error.
    pub fn checked(&self, shard: usize, value: Value) -> Result<Value, RedisFailure> {
        match value {
            Value::ServerError(error) => Err(RedisFailure { node: self.node(shard).clone(), cause: describe(&error) }),
            value => Ok(value),
        }
    }

    /// A failure of that shard.
    pub fn failure(&self, shard: usize, cause: impl Into<String>) -> RedisFailure {
        RedisFailure { node: self.node(shard).clone(), cause: cause.into() }
    }
}

/// Some slots and who has them.
struct SlotRange {
    first: u16,
    last: u16,
    master: (String, u16),
}

/// Queries one node after the other for the slots of the Cluster.
async fn discover(address: &RedisAddress, timeouts: RedisTimeouts) -> Result<Vec<SlotRange>, RedisFailure> {
    let mut last = None;
    for (host, port) in &address.nodes {
        let asked = async {
            let mut shard = connect(address, host, *port, timeouts).await?;
            let value = shard.connection.send_packed_command(cmd("CLUSTER").arg("SLOTS")).await;
            let value = value.and_then(Value::extract_error).map_err(|error| failure(&shard.node, &error))?;
            slot_ranges(&value, host).ok_or_else(|| RedisFailure {
                node: shard.node.clone(),
                cause: "CLUSTER SLOTS answered what cannot be understood".into(),
            })
        };
        match asked.await {
            Ok(ranges) => return Ok(ranges),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(|| RedisFailure { node: address.to_string().into(), cause: "no node".into() }))
}

/// Reads `[[first, last, [host, port, …], replicas…], …]`. A node that does not know its own address sends
/// none: then it is the node that was queried.
fn slot_ranges(value: &Value, asked: &str) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = value else { return None };
    let range = |range: &Value| {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
        let [host, Value::Int(port), ..] = &master[..] else { return None };
        let host = match host {
            Value::Nil => asked.to_owned(),
            host => Some(text(host)?).filter(|host| !host.is_empty()).unwrap_or_else(|| asked.to_owned()),
        };
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        Some(SlotRange { first, last, master: (host, u16::try_from(*port).ok()?) })
    };
    ranges.iter().map(range).collect()
}

async fn connect(
    address: &RedisAddress,
    host: &str,
    port: u16,
    timeouts: RedisTimeouts,
) -> Result<Shard, RedisFailure> {
    let node = Arc::<str>::from(format!("{host}:{port}"));
    let connection = open(address, host, port, timeouts).await.map_err(|error| failure(&node, &error))?;
    Ok(Shard { node, connection })
}

async fn open(
    address: &RedisAddress,
    host: &str,
    port: u16,
    timeouts: RedisTimeouts,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.response));
    client(address, host, port)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Connects to one node after the other until one answers a question; the last error as it came.
pub(super) async fn connect_once(address: &RedisAddress, timeouts: RedisTimeouts) -> Result<(), RedisError> {
    let mut outcome = Ok(());
    for (host, port) in &address.nodes {
        let asked = async {
            let question = match address.cluster {
                true => cmd("CLUSTER").arg("SLOTS").clone(),
                false => cmd("INFO").arg("server").clone(),
            };
            let mut connection = open(address, host, *port, timeouts).await?;
            connection.send_packed_command(&question).await?.extract_error().map(drop)
        };
        outcome = asked.await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn client(address: &RedisAddress, host: &str, port: u16) -> Result<Client, RedisError> {
    let mut settings =
        RedisConnectionInfo::default().set_db(address.db).set_lib_name("tally", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &address.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &address.password {
        settings = settings.set_password(password);
    }
    let host = host.to_owned();
    let place = match address.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let info = place.into_connection_info()?.set_redis_settings(settings);
    let Some(file) = address.ca() else { return Client::open(info) };
    let certificates = std::fs::read(file).map_err(|error| {
        RedisError::from((ErrorKind::InvalidClientConfig, "cannot be read", format!("{}: {error}", file.display())))
    })?;
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(certificates) })
}

/// Results of tasks in the order in which they were numbered, or the first failure.
async fn in_order<T: 'static>(mut tasks: JoinSet<(usize, Result<T, RedisFailure>)>) -> Result<Vec<T>, RedisFailure> {
    let mut results = Vec::with_capacity(tasks.len());
    let mut failed = None;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok((at, Ok(result))) => results.push((at, result)),
            Ok((_, Err(failure))) => failed = Some(failure),
            Err(panic) => failed = Some(RedisFailure { node: "client".into(), cause: panic.to_string() }),
        }
    }
    results.sort_unstable_by_key(|(at, _)| *at);
    match failed {
        Some(failure) => Err(failure),
        None => Ok(results.into_iter().map(|(_, result)| result).collect()),
    }
}

fn failure(node: &Arc<str>, error: &RedisError) -> RedisFailure {
    RedisFailure { node: node.clone(), cause: error.to_string() }
}

/// An error of the server with its code, for the reader to look up.
pub fn describe(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

/// A string as Redis answers it; None where it is something else.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".into()),
        _ => None,
    }
}
