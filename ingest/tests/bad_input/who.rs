//! Well-formed events that the caller may not send: as another actor, above a limit, or without a read token.

use super::fixture::*;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tally_access::{AccessMetrics, ActionLimits, Buckets, IPV6_PREFIX_BITS, Limits, Principal, Scope};
use tally_ingest::IngestConfig;
use tally_model::ReadToken;

fn principal(name: &str, is_user: bool, limits: Limits) -> Arc<Principal> {
    let scopes = [Scope::Write].into_iter().collect();
    Arc::new(Principal { name: name.into(), scopes, actor: is_user.then(|| name.into()), limits })
}

fn limited(per_ip: u32, per_actor: u32) -> Bed {
    let registry = prometheus::Registry::new();
    let buckets = Arc::new(Buckets::new(None, AccessMetrics::new(&registry).unwrap()));
    let switches = vec!["like".into(), "unlike".into()];
    let (per_ip, per_actor) = (Some(per_ip), Some(per_actor));
    let limits = ActionLimits { per_ip, per_actor, ipv6_prefix_bits: IPV6_PREFIX_BITS, switches, buckets };
    Bed::with(IngestConfig { limits: Some(limits), ..config() })
}

async fn post(bed: &Bed, who: Option<&Arc<Principal>>, events: Value) -> Answer {
    let mut request = request("application/json", events.to_string());
    if let Some(who) = who {
        request.extensions_mut().insert(who.clone());
    }
    bed.send(request).await
}

fn like(id: usize, actor: &str) -> Value {
    json!({"event_id": format!("e{id}"), "type": "like", "actor_id": actor, "subject_id": "article:7"})
}

#[tokio::test]
async fn a_user_acts_only_as_itself_and_from_its_own_address() {
    let bed = Bed::new();
    let user = principal("u42", true, Limits::default());
    let event = |more: Value| {
        let mut event = json!({"event_id": "e", "type": "view", "subject_id": "article:7"});
        more.as_object().unwrap().iter().for_each(|(name, value)| event[name] = value.clone());
        event
    };
    for (more, error) in [
        (json!({}), None),
        (json!({"actor_id": "u42"}), None),
        (json!({"ip": "203.0.113.9"}), None),
        (json!({"ip": "::FFFF:203.0.113.9"}), None),
        (json!({"actor_id": "u7"}), Some("`actor_id` must be the `sub` of the token")),
        (json!({"actor_id": ""}), Some("`actor_id` must be the `sub` of the token")),
        (json!({"ip": "198.51.100.1"}), Some("`ip` is set by the server: leave it out")),
        (json!({"user_agent": "mine"}), Some("`user_agent` is set by the server: leave it out")),
    ] {
        let answer = post(&bed, Some(&user), event(more.clone())).await;
        match error {
            None => {
                assert_eq!(answer.status, 202, "{more}: {}", answer.body);
                let [value] = &bed.values()[..] else { panic!("one record") };
                assert_eq!((&value["actor_id"], &value["ip"]), (&json!("u42"), &json!("203.0.113.9")));
            }
            Some(error) => {
                let said = answer.body["rejected"][0]["error"].as_str().unwrap_or_default();
                assert!(answer.status == 422 && said.starts_with(error), "{more}: {}", answer.body);
            }
        }
    }
    // A service acts for all.
    let service = principal("shop", false, Limits::default());
    let answer = post(&bed, Some(&service), event(json!({"actor_id": "u7", "ip": "198.51.100.1"}))).await;
    assert_eq!((answer.status, &bed.values()[0]["actor_id"]), (202, &json!("u7")));
}

#[tokio::test]
async fn only_a_service_says_where_the_events_of_others_come_from() {
    let (service, user) = (principal("shop", false, Limits::default()), principal("u42", true, Limits::default()));
    let base = json!({"event_id": "e", "type": "like", "actor_id": "u42", "subject_id": "article:7"});
    for (fields, own) in [
        (json!({}), true),
        (json!({"ip": "203.0.113.9", "user_agent": "theirs"}), true),
        (json!({"ip": "0:0:0:0:0:ffff:cb00:7109"}), true),
        (json!({"ip": "203.0.113.8"}), false),
        (json!({"ip": "127.0.0.1"}), false),
        (json!({"user_agent": "other"}), false),
        (json!({"user_agent": ""}), false),
    ] {
        let mut event = base.clone();
        fields.as_object().unwrap().iter().for_each(|(name, value)| event[name] = value.clone());
        let mut data = fields.clone();
        data["actor_id"] = json!("u42");
        let cloud = json!({"specversion": "1.0", "id": "e", "source": "/", "type": "like", "subject": "article:7",
                           "data": data});
        for (who, taken) in [(None, own), (Some(&user), own), (Some(&service), true)] {
            for (media, body) in [("application/json", &event), ("application/cloudevents+json", &cloud)] {
                let bed = Bed::new();
                let mut request = request(media, body.to_string());
                request.headers_mut().insert("user-agent", "theirs".parse().unwrap());
                who.map(|who| request.extensions_mut().insert(who.clone()));
                let answer = bed.send(request).await;
                assert_eq!(answer.status, if taken { 202 } else { 422 }, "{who:?} {body}: {}", answer.body);
                match bed.values().first() {
                    Some(stored) if own => {
                        assert_eq!((&stored["ip"], &stored["user_agent"]), (&json!("203.0.113.9"), &json!("theirs")));
                    }
                    Some(_) => {}
                    None => assert!(
                        answer.body["detail"].as_str().unwrap().contains("is set by the server"),
                        "{}",
                        answer.body
                    ),
                }
            }
        }
    }
}

#[tokio::test]
async fn an_address_is_stored_limited_and_named_in_one_spelling() {
    let service = principal("shop", false, Limits::default());
    for (spellings, canonical) in [
        (["203.0.113.7", "::ffff:203.0.113.7", "0:0:0:0:0:FFFF:CB00:7107"], "203.0.113.7"),
        (["2001:db8::7", "2001:DB8:0:0:0:0:0:7", "2001:0db8::0007"], "2001:db8::7"),
    ] {
        let bed = limited(2, 0);
        let mut names = Vec::new();
        for (n, ip) in spellings.into_iter().enumerate() {
            let view = json!({"event_id": format!("v{n}"), "type": "view", "subject_id": "article:7", "ip": ip});
            let answer = post(&bed, Some(&service), view).await;
            assert_eq!(answer.status, if n < 2 { 202 } else { 429 }, "{ip}: {}", answer.body);
            names.extend(bed.values().into_iter().map(|value| (value["ip"].clone(), value["actor_id"].clone())));
        }
        assert_eq!(names.len(), 2);
        assert!(names.iter().all(|name| *name == names[0] && name.0 == json!(canonical)), "{names:?}");
    }
}

#[tokio::test]
async fn what_is_over_a_limit_is_rejected_alone() {
    let bed = limited(0, 2);
    let mut events: Vec<_> = (0..5).map(|id| like(id, if id == 3 { "u2" } else { "u1" })).collect();
    events.insert(1, json!({"event_id": "x", "type": "nonsense"}));
    let answer = post(&bed, None, json!(events)).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(3)), "{}", answer.body);
    let rejected = answer.body["rejected"].as_array().unwrap();
    let places: Vec<_> = rejected.iter().map(|one| (one["index"].as_u64().unwrap(), &one["event_id"])).collect();
    assert_eq!(places, [(1, &json!("x")), (3, &json!("e2")), (5, &json!("e4"))]);
    assert_eq!((&rejected[0]["retry_after"], &rejected[1]["retry_after"]), (&Value::Null, &json!(30)));
    let sent: Vec<_> = bed.values().iter().map(|value| value["event_id"].clone()).collect();
    assert_eq!(sent, ["e0", "e1", "e3"], "in their order");
    // Alone it is 429.
    let answer = post(&bed, None, like(9, "u1")).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(answer.body["type"], "urn:tally:problem:too-many-requests");
    assert_eq!(answer.body["rejected"][0]["event_id"], "e9");
    // Another address, and what is no switch, is not concerned.
    let mut elsewhere = like(10, "u1");
    elsewhere["ip"] = json!("198.51.100.1");
    let service = principal("shop", false, Limits::default());
    assert_eq!(post(&bed, Some(&service), elsewhere).await.status, 202);
    let view = json!({"event_id": "v", "type": "view", "actor_id": "u1", "subject_id": "article:7"});
    assert_eq!(post(&bed, None, view).await.status, 202);
}

#[tokio::test]
async fn keys_have_limits_of_their_own() {
    let bed = limited(4, 1);
    let import = principal("import", false, Limits { per_actor_per_minute: Some(0), ..Limits::default() });
    let small = principal("small", false, Limits { events_per_minute: Some(1), ..Limits::default() });
    let accepted = async |who: &Arc<Principal>, from: usize, ip: &str| {
        let event = |id| {
            let mut event = like(from + id, "u1");
            event["ip"] = json!(ip);
            event
        };
        let answer = post(&bed, Some(who), json!((0..3).map(event).collect::<Vec<_>>())).await;
        answer.body["accepted"].as_u64().unwrap_or_default()
    };
    assert_eq!(accepted(&import, 0, "192.0.2.1").await, 3, "no limit for an actor");
    assert_eq!(accepted(&import, 10, "192.0.2.1").await, 1, "but one for the address");
    assert_eq!(accepted(&small, 20, "192.0.2.2").await, 1);
    assert_eq!(accepted(&small, 30, "192.0.2.3").await, 0);
}

fn read(token: Value, duration_ms: i64) -> Value {
    json!({"event_id": "r", "type": "read", "actor_id": "u42", "subject_id": "article:7", "duration_ms": duration_ms,
           "properties": {"source": "feed", "read_token": token}})
}

async fn open(bed: &Bed, who: Option<&Arc<Principal>>, body: &str) -> Answer {
    let mut request =
        Request::post("/v1/read-tokens").header("host", "ingest").header("content-type", "application/json");
    if let Some(who) = who {
        request = request.extension(who.clone());
    }
    bed.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn a_read_proves_how_long_the_page_was_open() {
    let bed = Bed::new();
    let answer = open(&bed, None, r#"{"subject_id":"article:7","actor_id":"u42"}"#).await;
    assert_eq!((answer.status, &answer.body["expires_at"]), (200, &json!("2026-11-22T08:00:00.000Z")));
    let good = answer.body["token"].clone();
    let signed = |subject: &str, actor: Option<&str>| {
        let (subject_id, actor_id) = (subject.to_owned(), actor.map(str::to_owned));
        json!(ReadToken { signed_at_ms: NOW_MS, subject_id, actor_id }.encode(&receipt_key()))
    };
    let mut forged_key = receipt_key();
    forged_key.secret = [1; 32];
    let own = ReadToken { signed_at_ms: 0, subject_id: "article:7".into(), actor_id: Some("u42".into()) };
    let receipt = post(&bed, None, like(0, "u1")).await.body["receipt"].clone();
    bed.values();
    let foreign = "has a `read_token` that this service did not sign";
    for (token, after_ms, duration_ms, error) in [
        (good.clone(), 5_000, 5_000, None),
        (good.clone(), 4_999, 5_000, Some("is longer than the time since its `read_token` was signed")),
        (good.clone(), 0, 1, Some("is longer than the time since its `read_token` was signed")),
        (good.clone(), 86_399_999, 86_399_999, None),
        (good.clone(), 86_400_000, 5_000, Some("has a `read_token` that has expired")),
        (signed("article:8", Some("u42")), 9_000, 5_000, Some("has a `read_token` for another subject")),
        (signed("article:7", Some("u7")), 9_000, 5_000, Some("has a `read_token` for another actor")),
        (signed("article:7", None), 9_000, 5_000, Some("has a `read_token` for another actor")),
        (json!(own.encode(&forged_key)), 9_000, 5_000, Some(foreign)),
        (receipt, 9_000, 5_000, Some(foreign)),
        (json!(""), 9_000, 5_000, Some(foreign)),
        (json!(7), 9_000, 5_000, Some(foreign)),
    ] {
        bed.now_ms.store(NOW_MS + after_ms, Ordering::Relaxed);
        let answer = post(&bed, None, read(token.clone(), duration_ms)).await;
        let said = answer.body["rejected"][0]["error"].as_str().unwrap_or_default();
        match error {
            Some(error) => assert!(answer.status == 422 && said.contains(error), "{token}: {}", answer.body),
            None => {
                assert_eq!(answer.status, 202, "{}", answer.body);
                assert_eq!(bed.values()[0]["properties"], json!({"source": "feed"}), "it is not kept");
            }
        }
    }
    bed.now_ms.store(NOW_MS, Ordering::Relaxed);
    let mut without = read(Value::Null, 5_000);
    without["properties"] = json!({"source": "feed"});
    assert_eq!(post(&bed, None, without.clone()).await.status, 202, "it is not asked for");
    let strict = Bed::with(IngestConfig { read_token_required: true, ..config() });
    let answer = post(&strict, None, without).await;
    assert!(answer.body["detail"].as_str().unwrap().contains("needs `read_token`"), "{}", answer.body);
}

#[tokio::test]
async fn read_tokens_are_signed_for_valid_ids_and_for_oneself() {
    let bed = Bed::new();
    let user = principal("u42", true, Limits::default());
    let good = r#"{"subject_id":"article:7"}"#;
    for (who, body, status, problem) in [
        (None, good, 200, ""),
        (Some(&user), good, 200, ""),
        (Some(&user), r#"{"subject_id":"article:7","actor_id":"u42"}"#, 200, ""),
        (Some(&user), r#"{"subject_id":"article:7","actor_id":"u7"}"#, 403, "other-actor"),
        (None, r#"{"subject_id":"article"}"#, 400, "bad-request"),
        (None, r#"{"subject_id":"article:7","actor_id":""}"#, 400, "bad-request"),
        (None, r#"{"subject_id":"article:7","actor":"u7"}"#, 400, "bad-request"),
        (None, r#"{"actor_id":"u7"}"#, 400, "bad-request"),
        (None, "", 400, "bad-request"),
        (None, &" ".repeat(5_000), 413, "payload-too-large"),
    ] {
        let answer = open(&bed, who, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        match answer.body["token"].as_str() {
            Some(token) => {
                let token = ReadToken::decode(token, &receipt_key()).unwrap();
                assert_eq!((token.signed_at_ms, token.actor_id.as_deref()), (NOW_MS, who.map(|_| "u42")));
            }
            None => assert_eq!(answer.body["type"], format!("urn:tally:problem:{problem}")),
        }
    }
    let request = Request::post("/v1/read-tokens").header("host", "ingest").header("content-type", "text/plain");
    assert_eq!(bed.send(request.body(Body::from(good)).unwrap()).await.status, 415);
}
