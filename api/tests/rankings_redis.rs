//! Boards from Redis while the view of this process cannot answer, and when they are not trusted.

mod fixture;

use fixture::*;
use redis::{Cmd, Pipeline, cmd};
use serde_json::{Value, json};
use std::time::Duration;
use tally_api::{ApiConfig, Marks, OutputTopic, Rankings};
use tally_cache::redis::*;
use tally_model::{ProgressMark, Ranking, Roots};
use tally_testkit::{service, with_prefix};

/// A topic that the log does not have: the view is never ready.
const TOPIC: &str = "boards";

/// The sink's side of a Redis.
struct Sink {
    shards: Shards,
    keys: Keys,
}

impl Sink {
    async fn ask(&self, slot: u16, command: &Cmd) {
        let mut pipeline = Pipeline::new();
        pipeline.add_command(command.clone());
        let shard = self.shards.of(slot);
        for answer in self.shards.ask(shard, &pipeline).await.unwrap() {
            self.shards.checked(shard, answer).unwrap();
        }
    }

    /// As the sink opens an epoch.
    async fn open(&self, epoch: u64) {
        let nodes = NodeIdentity::of_all(&self.shards).await.unwrap();
        let stored = nodes.into_iter().map(|node| StoredShard {
            run_id: node.run_id,
            replication_id: node.replication_id,
            marker: 0,
        });
        let shards = serde_json::to_string(&stored.collect::<Vec<_>>()).unwrap();
        let command = cmd("HSET").arg(self.keys.progress()).arg(EPOCH).arg(epoch).arg(SHARDS).arg(shards).to_owned();
        self.ask(self.keys.progress_slot(), &command).await;
    }

    async fn move_to(&self, positions: &[(u32, u64, i64)], refill_until: Option<u64>) {
        let mut all = Roots::default();
        all.apply(ProgressMark { task: "by-board/0".into(), generation: 0, roots: roots(positions), version: 1 });
        let stored = StoredPartition { next_offset: 5, version: 1, refill_until, roots: all };
        let field = format!("{TOPIC}/0");
        let command = cmd("HSET").arg(self.keys.progress()).arg(field).arg(stored.to_json()).to_owned();
        self.ask(self.keys.progress_slot(), &command).await;
        // How old the progress may be that a reader judges by.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn board(&self, ranking: &Ranking, epoch: u64) {
        let json = serde_json::to_string(ranking).unwrap();
        let key = self.keys.ranking(&ranking.board);
        let mut command = cmd("HSET");
        command.arg(key).arg(EPOCH_FIELD).arg(epoch).arg(VERSION_FIELD).arg(ranking.version);
        self.ask(Keys::board_slot(&ranking.board), command.arg(RANKING_FIELD).arg(json)).await;
    }

    async fn clear(&self, boards: &[&str]) {
        self.ask(self.keys.progress_slot(), &cmd("DEL").arg(self.keys.progress()).to_owned()).await;
        for board in boards {
            self.ask(Keys::board_slot(board), &cmd("DEL").arg(self.keys.ranking(board)).to_owned()).await;
        }
    }
}

/// A world for every Redis of the environment.
async fn worlds() -> Vec<(World, Sink)> {
    let mut worlds = Vec::new();
    for variable in ["TALLY_TEST_REDIS", "TALLY_TEST_REDIS_CLUSTER"] {
        let Some(url) = service(variable) else { continue };
        let address = RedisAddress::parse(&with_prefix(&url)).unwrap();
        let seconds = Duration::from_secs(2);
        let timeouts = RedisTimeouts { connect: seconds, response: seconds };
        let shards = Shards::connect(&address, timeouts).await.unwrap();
        let topic = OutputTopic { name: TOPIC.into(), partitions: 1, marks: Marks::All };
        let rankings = Some(Rankings { topic, cached: true, nodes: vec!["hot".into()], pages_for: Duration::ZERO });
        let keys = Keys::new(&address);
        let world = World::with(ApiConfig { rankings, ..config() }, Some(address)).await;
        world.move_to(TOPIC, 0, &[(0, 10, 1_000), (1, 10, 1_000)]).await;
        for partition in [0, 1] {
            world.move_to("counters", partition, &[(0, 50, 9_000), (1, 50, 9_000)]).await;
        }
        world.board(&ranking("hot", &[("a:1", 1)], 1)).await;
        world.board(&ranking("hot@db", &[], 1)).await;
        worlds.push((world, Sink { shards, keys }));
    }
    worlds
}

/// Who is on a board, and of when the answer is.
async fn ask(world: &World, uri: &str) -> (Vec<String>, Value) {
    let body = world.get(uri).await.body;
    let ids = body["items"].as_array().unwrap_or_else(|| panic!("{uri}: {body}"));
    (ids.iter().map(|item| item["subject_id"].as_str().unwrap().to_owned()).collect(), body["as_of"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_is_served_where_it_may_be_believed_and_else_the_database() {
    for (world, sink) in worlds().await {
        let database = (vec!["a:1".to_owned()], json!("2026-11-21T08:00:01.000Z"));
        let of_redis = (vec!["a:2".to_owned(), "a:1".to_owned()], json!("2026-11-21T08:00:02.000Z"));
        let uri = "/v1/rankings/hot";
        assert_eq!(ask(&world, uri).await, database, "there is nothing");
        sink.board(&ranking("hot", &[("a:2", 9), ("a:1", 9)], 2), 7).await;
        sink.open(7).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(ask(&world, uri).await, database, "there is no position");
        sink.move_to(&[(0, 20, 2_000), (1, 20, 2_000)], Some(9)).await;
        assert_eq!(ask(&world, uri).await, database, "it is being filled");
        sink.move_to(&[(0, 20, 2_000), (1, 20, 2_000)], None).await;
        assert_eq!(ask(&world, uri).await, of_redis);
        assert_eq!(ask(&world, "/v1/rankings/hot@db").await.0, Vec::<String>::new(), "a miss is no answer");
        sink.board(&ranking("hot", &[("a:3", 9)], 3), 6).await;
        assert_eq!(ask(&world, uri).await, database, "another epoch");
        sink.clear(&["hot"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_until_redis_has_what_the_receipt_covers() {
    for (world, sink) in worlds().await {
        sink.open(7).await;
        sink.board(&ranking("hot", &[("a:2", 9)], 2), 7).await;
        sink.move_to(&[(0, 20, 2_000), (1, 20, 2_000)], None).await;
        let uri = |wait_ms| format!("/v1/rankings/hot?wait_ms={wait_ms}&after={}", receipt(&[(0, 20)]));
        assert_eq!(world.get(&uri(0)).await.body["after"], "pending");
        let moved = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            sink.board(&ranking("hot", &[("a:2", 9), ("a:4", 8)], 3), 7).await;
            sink.move_to(&[(0, 21, 3_000), (1, 20, 3_000)], None).await;
        };
        let uri = uri(9_000);
        let (answer, ()) = tokio::join!(world.get(&uri), moved);
        assert_eq!(
            (&answer.body["after"], &answer.body["as_of"]),
            (&json!("applied"), &json!("2026-11-21T08:00:03.000Z"))
        );
        assert_eq!(answer.body["items"].as_array().unwrap().len(), 2);
        sink.clear(&["hot"]).await;
    }
}
