//! Compares the log, the tables, the hashes and the API with the naive model of the topic `user-actions`.

use super::Cluster;
use crate::feed::WorkloadFile;
use crate::naive::{
    Differences, Held, Model, Moment, Stored, StoredBoards, TopicBoards, compare_boards, compare_counters,
    compare_stored, items, read_topic,
};
use crate::run::{
    aggregates_served, closed_ms, compare_aggregates, compare_ids, rest, sample, served, wait_until_released,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, HashSet};
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_testkit::boards::{self, Board};
use tally_testkit::{Client, wait_until};

/// Totals by subject, as one of the stores has them: JSON.
type Served = HashMap<String, BTreeMap<String, String>>;

/// Compares everything, and stops the roles.
pub fn everything(
    seed: u64,
    cluster: &mut Cluster,
    client: &Client,
    file: &WorkloadFile,
    mut moments: Vec<Moment>,
) -> Differences {
    let rest = moment(cluster, client);
    wait_until_released(closed_ms(&rest), || Stored::clock_ms(&cluster.services.direct.mariadb));
    moments.push(rest);
    let served = client.counters(&sample(seed));
    let aggregates = aggregates_served(client);
    let log = KafkaLog::open(KafkaOptions::new(cluster.services.direct.kafka.clone())).expect("the broker is there");
    let mut model = Model::with_aggregates();
    model.read(&log);
    let topic = totals_of_topic(&log);
    let (rules, mut rankings) = (boards::rules(), TopicBoards::default());
    read_topic(&log, "rankings", |record| rankings.take(record, &mut moments));
    rankings.finish(&mut moments);
    // The cache catches up on its own.
    let in_redis = |wanted: &Served| {
        let found = hashes(&cluster.services.direct.redis, wanted.keys());
        wanted.iter().all(|(subject, totals)| found.get(subject) == Some(totals)).then_some(found)
    };
    let hashed = wait_until("Redis to hold what the topic holds", || in_redis(&topic));
    cluster.stop();

    let mut differences = Differences::default();
    let stored = Stored::read(&cluster.services.direct.mariadb);
    compare_stored(&model, &stored, &mut differences);
    compare_aggregates(&model, &log, &stored, &aggregates, &mut differences);
    compare_counters(&model, &served, &mut differences);
    compare_boards(&model, &moments, &rules, &mut differences);
    let stored = StoredBoards::read(&cluster.services.direct.mariadb).boards;
    rankings.compare_versions("database", &stored, &mut differences);
    differences.compared("records of boards", rankings.records);
    compare_totals("subjects in the topic", &model, &topic, &mut differences);
    compare_totals("subjects in Redis", &model, &hashed, &mut differences);
    compare_ids(&model, file, &mut differences);
    differences
}

/// Waits until everything is counted, and reads all boards from the API, the database and Redis.
pub fn moment(cluster: &Cluster, client: &Client) -> Moment {
    let (rules, direct) = (boards::rules(), &cluster.services.direct);
    rest(client, &rules, || {
        let served = served(client, &rules);
        let stored = StoredBoards::read(&direct.mariadb).held("database");
        // The content of Redis was written after the identity that it reported a moment ago.
        let sets = sorted_sets(&direct.redis, &served)?;
        Some(vec![served, stored, sets])
    })
}

/// The sorted sets of boards; None while one is missing, or differs from the record beside it.
fn sorted_sets(url: &str, served: &Held) -> Option<Held> {
    let mut connection = redis::Client::open(url).and_then(|client| client.get_connection()).ok()?;
    let mut boards = BTreeMap::new();
    for (board, served) in &served.boards {
        let key = format!("tally:board:{{{board}}}");
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("ZRANGE").arg(&key).arg(&["0", "-1", "WITHSCORES"]);
        pipeline.cmd("HGET").arg(format!("{key}:ranking")).arg("ranking");
        let (set, record): (Vec<(String, i64)>, Option<String>) = pipeline.query(&mut connection).ok()?;
        let mut set: Board = set;
        // Among equal scores Redis has an order of its own.
        set.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let record = record.map(|record| serde_json::from_str::<serde_json::Value>(&record).expect("JSON"));
        let recorded = record.map(|record| items(&record["items"])).unwrap_or_default();
        if recorded.is_empty() && !served.is_empty() {
            return None;
        }
        assert_eq!(set, recorded, "{board}: the sorted set, and the record beside it");
        boards.insert(board.clone(), set);
    }
    Some(Held::new("Redis", served.clock_ms, boards))
}

/// All totals of a store but those of aggregates; a metric that is missing is 0. Visitors are estimates, which the tables
/// are held against.
fn compare_totals(store: &'static str, model: &Model, found: &Served, differences: &mut Differences) {
    let mut expected: HashMap<&str, BTreeMap<&str, i64>> = HashMap::new();
    for ((subject, metric), value) in model.counters.iter().filter(|(_, value)| **value != 0) {
        expected.entry(subject).or_default().insert(metric, *value);
    }
    let subjects: HashSet<&str> = expected.keys().copied().chain(found.keys().map(String::as_str)).collect();
    differences.compared(store, subjects.len());
    for subject in subjects {
        let right = expected.get(subject).cloned().unwrap_or_default();
        let there = found.get(subject).into_iter().flatten();
        let there = there.filter(|(metric, _)| *metric != "visitors" && !metric.contains('.'));
        let there = there.map(|(metric, value)| (metric.as_str(), value.parse().expect("an integer")));
        let there: BTreeMap<&str, i64> = there.filter(|(_, value)| *value != 0).collect();
        if there != right {
            differences.add(format!("{subject} among {store}: {there:?} is there, {right:?} is right"));
        }
    }
}

#[derive(Deserialize)]
struct Counters<'a> {
    #[serde(borrow)]
    counters: BTreeMap<String, &'a RawValue>,
}

/// The last record of every subject in the topic `counters`.
fn totals_of_topic(log: &KafkaLog) -> Served {
    let mut totals = Served::new();
    read_topic(log, "counters", |record| {
        if record.key.starts_with(b"\0") {
            return;
        }
        let subject = String::from_utf8(record.key.to_vec()).expect("subjects are UTF-8");
        let Counters { counters } = serde_json::from_slice(record.value).expect("totals by metric");
        let counters = counters.into_iter().map(|(metric, value)| (metric, value.get().to_owned()));
        totals.insert(subject, counters.collect());
    });
    totals
}

/// The hashes of subjects, without the fields that are no metric.
fn hashes<'a>(url: &str, subjects: impl Iterator<Item = &'a String>) -> Served {
    let mut connection = redis::Client::open(url).and_then(|client| client.get_connection()).expect("Redis is there");
    let subjects: Vec<_> = subjects.cloned().collect();
    let mut found = Served::new();
    for chunk in subjects.chunks(500) {
        let mut pipeline = redis::pipe();
        for subject in chunk {
            pipeline.cmd("HGETALL").arg(format!("tally:{{{subject}}}:counters"));
        }
        let hashes: Vec<BTreeMap<String, String>> = pipeline.query(&mut connection).expect("hashes");
        for (subject, hash) in chunk.iter().zip(hashes) {
            let is_metric = |name: &String| name.starts_with(|c: char| c.is_ascii_lowercase());
            let totals = hash.into_iter().filter(|(name, _)| is_metric(name));
            found.insert(subject.clone(), totals.collect());
        }
    }
    found
}
