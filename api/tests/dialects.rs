//! The same questions to the same rows have the same answers, whatever the database is. And what a server does that
//! is away.

#[path = "dialects/collects.rs"]
mod collects;
mod fixture;

use axum::http::StatusCode;
use fixture::*;
use serde_json::Value;
use std::time::{Duration, Instant};
use tally_model::hex;
use tally_testkit::{OwnServer, ServerDatabase, server_databases};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// Fills the tables and sends every request; returns requests and responses.
async fn answers(world: &World) -> Vec<(String, StatusCode, Value)> {
    let longest = format!("article:{}", "\u{7528}".repeat(40));
    for (id, likes) in [("article:a", 1), ("article:A", 2), ("article:\u{e9}", i64::MAX), (&longest, 4)] {
        world.total(id, "likes", likes).await;
        world.total(id, "views", likes / 2).await;
    }
    for i in 0..40 {
        world.total(&format!("video:{i}"), "visitors", i).await;
    }
    // That of every `receipt`.
    let request = hex(&[10; 16]);
    world.verdict(7, &request, "e7", "limited").await;
    world.verdict(5, &request, "E5", "duplicate").await;
    world.verdict(6, "other", "e6", "late").await;
    world
        .store
        .execute("UPDATE verdicts SET event_id = NULL, reason = ? WHERE `offset` = 7", &["\u{7528}\u{1f600} why"])
        .await;
    for (actor, time) in [("u1", 5), ("U1", 5), ("\u{7528}", 5), ("u2", 9), ("u3", 1)] {
        world.reaction(actor, "likes", "article:a", true, time).await;
        world.reaction("u9", "likes", &format!("article:{actor}"), true, time).await;
    }
    for (metric, start_ms, value) in
        [("views", NOW_MS, i64::MAX), ("views", NOW_MS - 3_600_000, 2), ("Views", NOW_MS, 3)]
    {
        world.window("article:a", metric, 3_600_000, start_ms, value).await;
    }
    for (offset, after_ms) in [(1, 5), (2, 5), (3, 4), (4, 9)] {
        world.dead_letter(offset, "no \u{7528}", &"\u{7528}".repeat(offset as usize * 300), after_ms).await;
    }
    world
        .store
        .execute("UPDATE dead_letters SET `key` = NULL, `partition` = NULL, reason = NULL, detail = NULL WHERE letter_offset = 3", &[])
        .await;
    let items = [("article:a", i64::MAX), ("article:A", 7), ("article:\u{e9}", 7), (&longest, 1)];
    for (board, after_ms) in [("hot", 3), ("hot@A", 2), ("hot@a", 1)] {
        world.board(&ranking(board, &items[..after_ms as usize + 1], after_ms)).await;
    }
    world.board(&ranking("quiet", &[], 4)).await;
    world.events(0, 20);
    world.move_to("rankings", 0, &[(0, 13, 6), (1, 3, 9)]).await;
    for topic in ["counters", "counter-windows", "verdicts", "reactions"] {
        world.move_to(topic, 0, &[(0, 12, 5), (1, 3, 9)]).await;
        world.move_to(topic, 1, &[(0, 11, 4), (1, 3, 8)]).await;
    }
    let encoded = |id: &str| id.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let many = |n: usize| (0..n).map(|i| format!("subject_id=video:{i}")).collect::<Vec<_>>().join("&");
    let mut uris: Vec<String> =
        ["article:a", "article:A", "article:\u{e9}", "article:e", &longest, "video:39", "video:77"]
            .map(|id| format!("/v1/subjects/{}/counters", encoded(id)))
            .into();
    uris.extend([1, 2, 4, 5, 16, 17, 100].map(|n| format!("/v1/counters?{}", many(n))));
    uris.push(format!("/v1/receipts/{}", receipt(&[(0, 8)])));
    uris.push(format!("/v1/receipts/{}", receipt(&[(0, 11)])));
    uris.push(format!("/v1/subjects/article:a/counters?after={}", receipt(&[(0, 9)])));
    uris.push(format!("/v1/subjects/article:a/counters?after={}&wait_ms=40", receipt(&[(0, 15)])));
    uris.push("/v1/counters?subject_id=article:u2&subject_id=article:x&actor_id=u9".to_owned());
    uris.push("/v1/subjects/article:a/counters?window=1h".to_owned());
    uris.extend(["/v1/progress", "/v1/topology", "/v1/dead-letters", "/readyz"].map(str::to_owned));
    let pages: Vec<_> = (2..4)
        .flat_map(|limit| {
            [
                "/v1/subjects/article:a/likes/actors",
                "/v1/actors/u9/likes/subjects",
                "/v1/rankings/hot",
                "/v1/dead-letters",
            ]
            .map(|uri| format!("{uri}?limit={limit}"))
        })
        .collect();
    for uri in &pages {
        let page = world.get(uri).await.body;
        uris.push(format!("{uri}&cursor={}", page["next"].as_str().unwrap()));
    }
    uris.extend(pages);
    uris.extend(["", "/hot", "/hot@A", "/hot@a?actor_id=u9", "/quiet"].map(|board| format!("/v1/rankings{board}")));
    uris.push(format!("/v1/rankings/hot?after={}", receipt(&[(0, 9)])));
    uris.push(format!("/v1/rankings/hot?after={}&wait_ms=40", receipt(&[(0, 15)])));
    let mut answers = Vec::new();
    for uri in uris {
        // The progress behind an answer may be a tenth of a second old.
        tokio::time::sleep(Duration::from_millis(if answers.is_empty() { 120 } else { 0 })).await;
        let answer = world.get(&uri).await;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
        answers.push((uri, answer.status, answer.body));
    }
    answers
}

#[test]
fn every_database_gives_the_same_answers() {
    let expected = block_on(async { answers(&World::new().await).await });
    assert_eq!(expected[0].2["counters"]["likes"], 1);
    assert_eq!(expected[2].2["counters"]["likes"], i64::MAX);
    assert_eq!(expected[14].2["not_counted"].as_array().unwrap().len(), 2, "{}", expected[14].2);
    for database in server_databases() {
        let found = block_on(async { answers(&World::on_server(&database.url).await).await });
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn a_wait_sees_what_is_written_on_a_server_meanwhile() {
    for database in server_databases() {
        block_on(async {
            let world = World::on_server(&database.url).await;
            world.move_to("counters", 0, &[(0, 1, 0)]).await;
            world.move_to("counters", 1, &[(0, 1, 0)]).await;
            let uri = format!("/v1/subjects/article:a/counters?wait_ms=5000&after={}", receipt(&[(0, 5)]));
            let (answer, ()) = tokio::join!(world.get(&uri), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                world.total("article:a", "likes", 3).await;
                world.move_to("counters", 0, &[(0, 6, 0)]).await;
                world.move_to("counters", 1, &[(0, 6, 0)]).await;
            });
            assert_eq!((&answer.body["after"], &answer.body["counters"]["likes"]), (&"applied".into(), &3.into()));
        });
    }
}

#[test]
fn a_server_that_is_away_is_503_in_time_and_served_again_when_it_is_back() {
    for server in OwnServer::each() {
        come_and_go(&server);
    }
}

fn come_and_go(server: &OwnServer) {
    let database = ServerDatabase::new(server.url.clone());
    block_on(async {
        let world = World::on_server(&database.url).await;
        world.total("article:a", "likes", 3).await;
        let uri = "/v1/subjects/article:a/counters";
        for (away, back) in [("stop", "start"), ("kill", "start"), ("pause", "resume")] {
            // Several connections, so that all of them break.
            let warm = (0..20).map(|_| world.get(uri));
            for answer in futures(warm).await {
                assert_eq!(answer.status, StatusCode::OK, "before {away}");
            }
            server.tell(away);
            // The first round finds the broken connections, the second has none.
            for round in 0..2 {
                // A subject that was not read before: the last known state of others is still served.
                let uri = format!("/v1/subjects/article:{away}-{round}/counters");
                tokio::time::sleep(Duration::from_millis(150)).await;
                let since = Instant::now();
                for answer in futures((0..20).map(|_| world.get(&uri))).await {
                    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{away}");
                    assert_eq!(answer.retry_after.as_deref(), Some("1"));
                }
                assert!(since.elapsed() < Duration::from_secs(30), "{away}: {:?}", since.elapsed());
            }
            server.tell(back);
            let since = Instant::now();
            while world.get(uri).await.status != StatusCode::OK {
                assert!(since.elapsed() < Duration::from_secs(60), "{back}");
            }
        }
    });
}

/// Runs requests at the same time.
pub async fn futures(requests: impl Iterator<Item = impl Future<Output = Answer>>) -> Vec<Answer> {
    let mut running: Vec<_> = requests.map(Box::pin).map(Some).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|context| {
        for slot in &mut running {
            if let Some(request) = slot
                && let std::task::Poll::Ready(answer) = request.as_mut().poll(context)
            {
                answers.push(answer);
                *slot = None;
            }
        }
        match running.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    answers
}
