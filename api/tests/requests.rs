//! Refused requests and their responses.

mod fixture;

use axum::http::StatusCode;
use fixture::*;
use serde_json::json;
use tally_api::ApiConfig;
use tally_model::{Receipt, ReceiptKey};
use utoipa::openapi::OpenApiBuilder;

#[tokio::test]
async fn what_is_wrong_is_said() {
    let world = World::new().await;
    let good = receipt(&[(0, 1)]);
    let other_log = Receipt { request: [1; 16], offsets: vec![] }.encode(&ReceiptKey { log_id: [1; 8], ..key() });
    let forged = Receipt { request: [1; 16], offsets: vec![] }.encode(&ReceiptKey { secret: [1; 32], ..key() });
    let strange = receipt(&[(0, 1), (2, 5)]);
    let many = "subject_id=a:1&".repeat(101);
    let long = "x".repeat(130);
    let one = "/v1/subjects/article:7/counters";
    let known = "`window`, `metric`, `from`, `to`, `after`, `wait_ms`";
    let gone = "This receipt belongs to a log that was replaced; the outcome of its events can no longer be looked up.";
    let no_receipt = "is not a receipt that this service issued.";
    let cases = [
        ("/v1/subjects/article/counters".into(), 400, "`subject_id` \"article\" must be `kind:id`, like `article:7`.".into()),
        ("/v1/subjects/Article:7/counters".into(), 400, "`subject_id` \"Article:7\" must begin with a kind: a lower-case letter, then up to 31 of `a-z0-9_-`, then `:`.".into()),
        ("/v1/subjects/article:/counters".into(), 400, "`subject_id` \"article:\" needs an id after the colon.".into()),
        ("/v1/subjects/article:a%20b/counters".into(), 400, "`subject_id` \"article:a b\" must not contain braces, whitespace or control characters.".into()),
        ("/v1/subjects/article:%7Bx%7D/counters".into(), 400, "`subject_id` \"article:{x}\" must not contain braces, whitespace or control characters.".into()),
        ("/v1/subjects/article:%ff/counters".into(), 400, "`subject_id` is not percent-encoded UTF-8.".into()),
        (format!("/v1/subjects/a:{long}/counters"), 400, format!("`subject_id` \"a:{long}\" must have at most 128 bytes.")),
        (format!("{one}?metric=likes"), 400, "`metric` requires `window`.".into()),
        (format!("{one}?metrics=likes"), 400, format!("Unknown query parameter `metrics`; this route accepts: {known}.")),
        (format!("{one}?subject_id=a:1"), 400, format!("Unknown query parameter `subject_id`; this route accepts: {known}.")),
        (format!("{one}?wait_ms=soon"), 400, "`wait_ms` must be a number of milliseconds from 0 to 10000.".into()),
        (format!("{one}?wait_ms=10001"), 400, "`wait_ms` must be a number of milliseconds from 0 to 10000.".into()),
        (format!("{one}?wait_ms=-1&after={good}"), 400, "`wait_ms` must be a number of milliseconds from 0 to 10000.".into()),
        (format!("{one}?after={good}&after={good}"), 400, "`after` may be given only once.".into()),
        (format!("{one}?after="), 400, format!("`after` {no_receipt}")),
        (format!("{one}?after=%zz"), 400, "`after` is not percent-encoded UTF-8.".into()),
        (format!("{one}?after={forged}"), 400, format!("`after` {no_receipt}")),
        (format!("{one}?after={other_log}"), 410, gone.into()),
        (format!("{one}?after={strange}"), 400, "`after` names partition 2, but `user-actions` has only 2.".into()),
        ("/v1/counters".into(), 400, "`subject_id` must be given 1 to 100 times, not 0.".into()),
        (format!("/v1/counters?{many}"), 400, "`subject_id` must be given 1 to 100 times, not 101.".into()),
        ("/v1/counters?subject_id=a:1&subject_id=b".into(), 400, "`subject_id` \"b\" must be `kind:id`, like `article:7`.".into()),
        ("/v1/counters?subject_id=a:1+2".into(), 400, "`subject_id` \"a:1 2\" must not contain braces, whitespace or control characters.".into()),
        ("/v1/counters?actor=u1&subject_id=a:1".into(), 400, "Unknown query parameter `actor`; this route accepts: `subject_id`, `actor_id`, `after`, `wait_ms`.".into()),
        (format!("/v1/receipts/{forged}"), 400, format!("The receipt {no_receipt}")),
        (format!("/v1/receipts/{}", &good[1..]), 400, format!("The receipt {no_receipt}")),
        (format!("/v1/receipts/{other_log}"), 410, gone.into()),
        (format!("/v1/receipts/{strange}"), 400, "The receipt names partition 2, but `user-actions` has only 2.".into()),
        (format!("/v1/receipts/{good}?x=1"), 400, "Unknown query parameter `x`; this route accepts: none.".into()),
        ("/v1/progress?partition=0".into(), 400, "Unknown query parameter `partition`; this route accepts: none.".into()),
    ];
    for (uri, status, detail) in cases {
        let answer = world.get(&uri).await;
        assert_eq!(answer.status.as_u16(), status, "{uri}: {}", answer.body);
        assert_eq!(answer.content_type, "application/problem+json", "{uri}");
        assert_eq!(answer.body["detail"], detail, "{uri}");
        assert_eq!(answer.body["status"], status, "{uri}");
    }
}

#[tokio::test]
async fn probes() {
    let world = World::new().await;
    world.expect("/livez", serde_json::json!({"status": "ok"})).await;
    world.expect("/readyz", serde_json::json!({"status": "ok"})).await;
    world.store.execute("DROP TABLE sink_progress", &[]).await;
    let started = std::time::Instant::now();
    while world.get("/readyz").await.status != StatusCode::SERVICE_UNAVAILABLE {
        assert!(started.elapsed() < std::time::Duration::from_secs(60));
    }
    assert_eq!(world.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_route_is_described() {
    let world = World::new().await;
    let document = tally_api::router(world.api.clone()).describe(OpenApiBuilder::new().build());
    let paths: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
    let expected = [
        "/v1/actors/{actor_id}/{metric}/subjects",
        "/v1/counters",
        "/v1/dead-letters",
        "/v1/dead-letters/reasons",
        "/v1/live",
        "/v1/processes",
        "/v1/progress",
        "/v1/progress/history",
        "/v1/rankings",
        "/v1/rankings/{board}",
        "/v1/receipts/{receipt}",
        "/v1/subjects/{subject_id}/counters",
        "/v1/subjects/{subject_id}/{metric}/actors",
        "/v1/topology",
    ];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn dead_letters_come_newest_first_in_pages_and_their_payloads_are_cut() {
    let world = World::new().await;
    for (offset, after_ms, value) in
        [(1, 5, "a".repeat(5_000)), (2, 5, "{}".into()), (3, 4, String::new()), (4, 9, "z".into())]
    {
        world.dead_letter(offset, "no event", &value, after_ms).await;
    }
    let first = world.get("/v1/dead-letters?limit=2").await.body;
    assert_eq!(
        first["items"][0],
        json!({"at": "2026-11-21T08:00:00.009Z", "reason": "no event", "detail": "it is z", "node": "valid", "topic": "user-actions",
               "partition": 1, "offset": 7, "key": "u1", "payload": "z", "payload_bytes": 1})
    );
    assert_eq!(first["items"][1]["payload"], "{}", "of the same time the later one first");
    let cursor = first["next"].as_str().unwrap();
    let second = world.get(&format!("/v1/dead-letters?limit=2&cursor={cursor}")).await.body;
    let payload = second["items"][0]["payload"].as_str().unwrap();
    assert_eq!((payload.len(), &second["items"][0]["payload_bytes"]), (2_048, &5_000.into()));
    let whole = world.get("/v1/dead-letters?payload_bytes_max=65536").await.body;
    let lengths = |body: &serde_json::Value| {
        let items = body["items"].as_array().unwrap().iter();
        items.map(|item| item["payload"].as_str().unwrap().len()).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&whole), [1, 2, 5_000, 0]);
    assert_eq!(lengths(&world.get("/v1/dead-letters?payload_bytes_max=1").await.body), [1, 1, 1, 0]);
    assert_eq!((&second["items"][1]["payload"], second.get("next")), (&"".into(), None));
    // A cursor of one list is none of another.
    let (of_all, of_reason) = (&first["next"], "/v1/dead-letters?reason=no+event");
    let refused = world.get(&format!("{of_reason}&cursor={}", of_all.as_str().unwrap())).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    for (uri, detail) in [
        ("/v1/dead-letters?payload_bytes_max=0", "`payload_bytes_max` must be a number from 1 to 65536."),
        ("/v1/dead-letters?payload_bytes_max=65537", "`payload_bytes_max` must be a number from 1 to 65536."),
        ("/v1/dead-letters?limit=0", "`limit` must be a number from 1 to 100."),
        ("/v1/dead-letters?cursor=AAAA", "`cursor` was not issued by this service for this list."),
        ("/v1/topology?x=1", "Unknown query parameter `x`; this route accepts: none."),
    ] {
        let answer = world.get(uri).await;
        assert_eq!((answer.status, answer.body["detail"].as_str()), (StatusCode::BAD_REQUEST, Some(detail)), "{uri}");
    }
    let none = World::with(ApiConfig { dead_letters: false, ..config() }, None).await;
    for uri in ["/v1/dead-letters", "/v1/dead-letters/reasons"] {
        assert_eq!(none.get(uri).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(none.get("/v1/topology").await.body["application"], "tally");
}

#[tokio::test]
async fn dead_letters_are_grouped_by_reason_and_found_by_it() {
    let world = World::new().await;
    world.expect("/v1/dead-letters/reasons", json!({"items": [], "looked_at": 0})).await;
    for (offset, reason) in [(1, "not JSON"), (2, "a NULL"), (3, "not JSON"), (4, "not json"), (5, "100 % of 'it'")] {
        world.dead_letter(offset, reason, &format!("value {offset}"), offset).await;
    }
    world.store.execute("UPDATE dead_letters SET reason = NULL, node = NULL WHERE reason = 'a NULL'", &[]).await;
    let at = |ms: i64| format!("2026-11-21T08:00:00.00{ms}Z");
    let item = |reason: Option<&str>, node: Option<&str>, count: u64, first: i64, last: i64| json!({"reason": reason, "node": node, "count": count, "first": at(first), "last": at(last)});
    let items = [
        item(Some("not JSON"), Some("valid"), 2, 1, 3),
        item(Some("100 % of 'it'"), Some("valid"), 1, 5, 5),
        item(Some("not json"), Some("valid"), 1, 4, 4),
        item(None, None, 1, 2, 2),
    ];
    world.expect("/v1/dead-letters/reasons", json!({"items": items, "looked_at": 5})).await;
    for (filter, expected) in [
        ("reason=not+JSON", &["value 3", "value 1"][..]),
        ("reason=100+%25+of+'it'", &["value 5"]),
        ("reason=", &["value 2"]),
        ("reason=not+JSON&node=valid", &["value 3", "value 1"]),
        ("node=valid", &["value 5", "value 4", "value 3", "value 1"]),
        ("node=", &["value 2"]),
        ("reason=not+JSON&node=shares", &[]),
    ] {
        // Page by page, so that filter and cursor work together.
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&format!("/v1/dead-letters?limit=1&{filter}{cursor}")).await.body;
            let items = page["items"].as_array().unwrap();
            found.extend(items.iter().map(|item| item["payload"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{filter}");
    }
}

#[tokio::test]
async fn the_history_begins_with_the_process_and_processes_say_what_they_report() {
    let world = World::new().await;
    let mut samples = serde_json::Value::Null;
    for _ in 0..500 {
        samples = world.get("/v1/progress/history").await.body["samples"].clone();
        if samples[0].is_object() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let first = json!({"at": "2026-11-21T08:00:00.000Z", "events": null, "lag_records": 0, "lag_seconds": 0.0,
                       "rejected": null, "store_errors": null});
    assert_eq!(samples, json!([first]));
    let items = world.get("/v1/processes").await.body["items"].clone();
    assert_eq!(items.as_array().map(Vec::len), Some(1));
    assert!(items[0]["metrics"].as_str().unwrap().contains("tally_api_live_streams 0"), "{items}");
    assert_eq!((items[0].get("address"), items[0].get("error")), (None, None));
}

#[tokio::test]
async fn what_may_be_kept_is_said_and_what_the_client_has_is_not_sent_again() {
    let world = World::new().await;
    world.cache.ready();
    world.cache.put("article:1", &[("likes", 1)]);
    world.cache.cache.put_board(ranking("hot", &[("article:1", 1_000)], 1));
    world.move_to("reactions", 0, &[(0, 10, 5_000)]).await;
    let at = |second: i64| {
        [0, 1].into_iter().for_each(|p| world.cache.move_to(p, &[(0, 9, second * 1_000), (1, 9, second * 1_000)]));
        world.cache.move_boards_to(&[(0, 9, second * 1_000), (1, 9, second * 1_000)]);
    };
    at(1);
    let (second, briefly, own) = ("max-age=1", "max-age=1, stale-while-revalidate=5", "private, no-cache");
    let mut kept = Vec::new();
    for (uri, expected) in [
        ("/v1/subjects/article:1/counters", second),
        ("/v1/subjects/article:1/counters?window=1h", briefly),
        ("/v1/counters?subject_id=article:1", second),
        ("/v1/counters?subject_id=article:1&actor_id=u1", own),
        ("/v1/rankings", briefly),
        ("/v1/rankings/hot", briefly),
        ("/v1/rankings/hot?actor_id=u1", own),
        ("/v1/subjects/article:1/likes/actors", "no-cache"),
        ("/v1/actors/u1/likes/subjects", own),
        ("/v1/progress", "no-store"),
        ("/v1/progress/history", "no-store"),
        ("/v1/processes", "no-store"),
        ("/v1/dead-letters/reasons", "no-store"),
        (&*format!("/v1/receipts/{}", receipt(&[])), "no-store"),
        (&*format!("/v1/subjects/article:1/counters?after={}", receipt(&[])), "no-store"),
        (&*format!("/v1/rankings/hot?after={}", receipt(&[])), "no-store"),
    ] {
        let response = world.response(uri, &[]).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((response.status(), header("cache-control").as_deref()), (StatusCode::OK, Some(expected)), "{uri}");
        assert_eq!(header("content-type").as_deref(), Some("application/json"), "{uri}");
        assert_eq!(header("vary").is_some(), header("etag").is_some(), "{uri}");
        assert_eq!(header("etag").is_none(), expected == "no-store", "{uri}");
        kept.extend(header("etag").map(|tag| (uri.to_owned(), tag)));
    }
    // Time passes and nothing changes: the client's copy stays valid.
    at(2);
    for (uri, tag) in &kept {
        let response = world.response(uri, &[("if-none-match", tag)]).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{uri}");
        assert_eq!(response.headers()["etag"], tag.as_str());
        assert!(response.headers().contains_key("cache-control") && !response.headers().contains_key("content-type"));
    }
    world.cache.put("article:1", &[("likes", 2)]);
    for (uri, tag) in kept.iter().filter(|(uri, _)| uri.contains("counters?subject") || uri.contains("hot")) {
        assert_eq!(world.response(uri, &[("if-none-match", tag)]).await.status(), StatusCode::OK, "{uri}");
    }
}
