//! Keys, tokens and limits of a running process, and its messages about them.

use super::{stage, tally};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tally_testkit::{Client, Site, wait_until};

const JWKS: &str = include_str!("../../access/fixtures/rsa.jwks.json");
/// Actor u42 with scope write, for a long time.
const TOKEN: &str = include_str!("../../access/fixtures/rsa.jwt");

fn like(event: &str, actor: &str, subject: usize) -> String {
    format!("{{\"event_id\":\"{event}\",\"type\":\"like\",\"actor_id\":\"{actor}\",\"subject_id\":\"a:{subject}\"}}\n")
}

/// Makes a key and adds it to the file.
pub(super) fn key(dir: &Path, name: &str, scope: &str) -> String {
    let output = tally(dir, &format!("key --name {name} --scope {scope} --append keys.yaml"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn send(dir: &Path, address: &str, key: &str) -> (Option<i32>, String) {
    let output = tally(dir, &format!("send likes.ndjson --to http://{address} --api-key {key} --batch 1000 --json"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn keys_let_in_and_no_secret_is_ever_logged() {
    let dir = stage();
    let [writer, reader, admin] =
        [("shop", "write"), ("web", "read"), ("ops", "admin")].map(|(name, scope)| key(dir.path(), name, scope));
    fs::write(dir.path().join("jwks.json"), JWKS).unwrap();
    fs::write(dir.path().join("likes.ndjson"), like("e1", "u1", 1) + &like("e2", "u2", 1)).unwrap();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    site.flags = ["--keys".into(), file("keys.yaml"), "--jwks".into(), file("jwks.json")].into();
    site.environment = vec![("RUST_LOG".into(), "trace".into())];
    let service = site.start();
    let client = Client(site.listen.clone());
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("content-type", "application/x-ndjson")];
        all.extend_from_slice(headers);
        client.exchange(method, path, &all, body.as_bytes()).unwrap()
    };
    // A file to the ingest API, with the right key and with others.
    let (code, said) = send(dir.path(), &client.0, &writer);
    assert!(code == Some(0) && said.contains("\"accepted\":2"), "{said}");
    for (wrong, expected) in [("tally_wrongwrongwrong", "401: "), (&reader, "403: ")] {
        let (code, said) = send(dir.path(), &client.0, wrong);
        assert!(code == Some(1) && said.contains(expected) && !said.contains(wrong), "{said}");
    }
    // A user can act only as itself.
    let bearer = format!("Bearer {TOKEN}");
    let mine = like("e3", "u42", 1) + &like("e4", "u7", 1);
    let answer = ask("POST", "/v1/events", &[("authorization", &bearer)], &mine).json();
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&1.into(), &1.into()), "{answer}");
    let refused = answer["rejected"][0]["error"].as_str().unwrap();
    assert!(refused.starts_with("`actor_id` must be the `sub` of the token"), "{refused}");
    // Nor can a user collect as another actor.
    for (actor, who, status) in [
        ("u42", ("authorization", &bearer), 200),
        ("u7", ("authorization", &bearer), 403),
        ("u7", ("x-api-key", &writer), 200),
        ("u42", ("x-api-key", &reader), 403),
    ] {
        for method in ["PUT", "DELETE"] {
            let path = format!("/v1/subjects/a:1/collects/{actor}");
            let told = ask(method, &path, &[(who.0, who.1.as_str())], "");
            assert_eq!(told.status, status, "{method} {path}: {told:?}");
        }
    }
    // Reads and operations require their scopes.
    let path = format!("/v1/subjects/a:1/counters?wait_ms=1000&after={}", answer["receipt"].as_str().unwrap());
    let read = wait_until("the read to have what was sent", || {
        Some(ask("GET", &path, &[("x-api-key", &reader)], "").json()).filter(|read| read["after"] != "pending")
    });
    assert_eq!(read["counters"]["likes"], 3, "{read}");
    for (path, key, status) in [
        ("/metrics", &reader, 403),
        ("/metrics", &admin, 200),
        ("/v1/progress", &admin, 200),
        ("/v1/counters?subject_id=a:1", &admin, 200),
        ("/v1/counters?subject_id=a:1", &writer, 403),
        ("/v1/nowhere?access_token=querysecret", &reader, 404),
    ] {
        assert_eq!(ask("GET", path, &[("x-api-key", key)], "").status, status, "{path}");
    }
    for path in ["/livez", "/readyz", "/openapi.json", "/"] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
    assert_eq!(ask("PUT", "/v1/subjects/a:1/collects/u1", &[], "").status, 401);
    let told = client.get("/v1/counters?subject_id=a:1").unwrap();
    assert_eq!((told.status, told.header("www-authenticate")), (401, Some("Bearer realm=\"tally\"")));
    // A new key counts without a restart; a file that is broken changes nothing.
    let late = key(dir.path(), "late", "read");
    let status = |key: &str| ask("GET", "/v1/counters?subject_id=a:1", &[("x-api-key", key)], "").status;
    wait_until("the new key to be known", || (status(&late) == 200).then_some(()));
    fs::write(dir.path().join("keys.yaml"), format!("- name: x\n  key: {writer}\n")).unwrap();
    service.signal("-HUP");
    wait_until("the broken file to be told", || site.messages().contains("keys.yaml:2:3").then_some(()));
    assert_eq!(status(&late), 200);
    let (ended, _) = service.terminate();
    assert_eq!(ended.code(), Some(0));
    let messages = site.messages();
    assert!(messages.contains("\"answered\""), "the access log is on");
    for secret in [&writer, &reader, &admin, &late, &TOKEN.to_owned(), &"querysecret".into(), &"wrongwrong".into()] {
        assert!(!messages.contains(secret.as_str()), "{secret} is in the log");
        // Not even a part of it.
        assert!(
            secret.len() < 20 || !messages.contains(&secret[secret.len() / 2..]),
            "a part of {secret} is in the log"
        );
    }
}

#[test]
fn who_likes_too_much_waits() {
    let dir = stage();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    site.flags = ["--limit-actor".into(), "600".into()].into();
    let service = site.start();
    let client = Client(site.listen.clone());
    let post = |actor: &str, from: usize, count: usize| {
        let lines: String = (from..from + count).map(|n| like(&format!("{actor}-{n}"), actor, n)).collect();
        client.post("/v1/events", "application/x-ndjson", lines.as_bytes()).unwrap()
    };
    // A limit comes back at ten a second, however long this takes: a request has more than that.
    let answer = post("flood", 0, 1_000).json();
    let (accepted, rejected) = (answer["accepted"].as_u64().unwrap(), answer["rejected"].as_array().unwrap());
    assert!(accepted >= 600 && accepted as usize + rejected.len() == 1_000, "{accepted}");
    let first = rejected[0]["index"].as_u64().unwrap();
    assert_eq!((first >= 600, &rejected[0]["retry_after"]), (true, &1.into()), "{}", rejected[0]);
    assert_eq!(rejected[0]["event_id"], format!("flood-{first}"));
    let error = rejected[0]["error"].as_str().unwrap();
    assert!(error.starts_with("exceeds the limit of toggle events per minute for this actor"), "{error}");
    assert_eq!(post("other", 0, 100).json()["accepted"], 100);
    // A file of them is still delivered, only later: one request has more than the limit.
    let lines: String = (0..605).map(|n| like(&format!("s{n}"), "sender", n)).collect();
    fs::write(dir.path().join("likes.ndjson"), lines).unwrap();
    let (code, said) = send(dir.path(), &site.listen, "unused");
    assert!(code == Some(0) && said.contains("\"accepted\":605") && said.contains("\"rejected\":0"), "{said}");
    assert!(!said.contains("\"requests_sent_again\":0"), "{said}");
    drop(service);
}

/// Answers every request with the content of the cell. Ends with the test.
fn publish(answer: &Arc<Mutex<String>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, answer) = (listener.local_addr().unwrap().port(), answer.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let head = BufReader::new(&stream).lines();
            let _ = head.map_while(Result::ok).take_while(|line| !line.is_empty()).count();
            let _ = stream.write_all(answer.lock().unwrap().as_bytes());
        }
    });
    port
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn the_keys_of_jwts_are_fetched_from_their_address() {
    let dir = stage();
    let answer =
        Arc::new(Mutex::new("HTTP/1.1 503 Later\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()));
    let url = format!("http://127.0.0.1:{}/keys", publish(&answer));
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    site.flags = ["--jwks".into(), url.clone()].into();
    let service = site.start();
    let client = Client(site.listen.clone());
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/x-ndjson"), ("authorization", bearer.as_str())];
    let post = || client.exchange("POST", "/v1/events", &headers, like("e1", "u42", 1).as_bytes()).unwrap();
    let told = post();
    assert_eq!((told.status, told.header("retry-after")), (503, Some("5")), "{told:?}");
    *answer.lock().unwrap() = ok(JWKS);
    wait_until("the keys to be fetched", || (post().status == 202).then_some(()));
    let others = JWKS.replace("\"kid\":\"r\"", "\"kid\":\"other\"");
    *answer.lock().unwrap() = ok(&others);
    service.signal("-HUP");
    wait_until("the key to be gone", || (post().status == 401).then_some(()));
    *answer.lock().unwrap() = ok(JWKS);
    service.signal("-HUP");
    wait_until("the key to be back", || (post().status == 202).then_some(()));
    let (ended, _) = service.terminate();
    assert_eq!(ended.code(), Some(0));
    for (told, expected) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "the response has status 404 Not Found; 200 is expected",
        ),
        (ok("<html>"), "1:1: is not a JWKS: expected a JSON object with `keys`"),
    ] {
        *answer.lock().unwrap() = told;
        let refused = tally(dir.path(), &format!("run --listen 127.0.0.1:0 --jwks {url}"));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("--jwks {url}: {expected}")), "{said}");
    }
}

#[test]
fn a_proxy_is_trusted_by_its_mapped_address_and_each_caller_has_one_bucket() {
    let dir = stage();
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    site.flags = ["--trusted-proxy", "::ffff:127.0.0.1", "--limit-ip", "1"].map(str::to_owned).into();
    let service = site.start();
    let client = Client(site.listen.clone());
    let mut statuses = Vec::new();
    for (n, caller) in
        ["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.8", "2001:db8::1", "2001:DB8:0:0::2", "2001:db8:0:1::1"]
            .iter()
            .enumerate()
    {
        let headers = [("content-type", "application/x-ndjson"), ("x-forwarded-for", *caller)];
        let line = like(&format!("e{n}"), "u1", n);
        statuses.push(client.exchange("POST", "/v1/events", &headers, line.as_bytes()).unwrap().status);
    }
    assert_eq!(statuses, [202, 429, 202, 202, 429, 202]);
    drop(service);
}

/// Every route with its required access, and whether it is described.
const ROUTES: &[(&str, &str, Option<&str>, bool)] = &[
    ("POST", "/v1/events", Some("write"), true),
    ("POST", "/v1/read-tokens", Some("write"), true),
    ("PUT", "/v1/subjects/{subject_id}/collects/{actor_id}", Some("write"), true),
    ("DELETE", "/v1/subjects/{subject_id}/collects/{actor_id}", Some("write"), true),
    ("GET", "/v1/counters", Some("read"), true),
    ("GET", "/v1/subjects/{subject_id}/counters", Some("read"), true),
    ("GET", "/v1/subjects/{subject_id}/{metric}/actors", Some("read"), true),
    // In its place the router finds the route of collects.
    ("GET", "/v1/subjects/{subject_id}/collects/actors", Some("read"), false),
    ("GET", "/v1/actors/{actor_id}/{metric}/subjects", Some("read"), true),
    ("GET", "/v1/rankings", Some("read"), true),
    ("GET", "/v1/rankings/{board}", Some("read"), true),
    ("GET", "/v1/live", Some("read"), true),
    ("GET", "/v1/receipts/{receipt}", Some("read"), true),
    ("GET", "/v1/progress", Some("admin"), true),
    ("GET", "/v1/progress/history", Some("admin"), true),
    ("GET", "/v1/processes", Some("admin"), true),
    ("GET", "/v1/topology", Some("admin"), true),
    ("POST", "/v1/plan", Some("admin"), true),
    ("GET", "/v1/dead-letters", Some("admin"), true),
    ("GET", "/v1/dead-letters/reasons", Some("admin"), true),
    ("GET", "/metrics", Some("metrics"), false),
    ("GET", "/livez", None, true),
    ("GET", "/readyz", None, true),
    ("GET", "/openapi.json", None, false),
    ("GET", "/", None, false),
    ("GET", "/nowhere", None, false),
];

#[test]
fn every_route_asks_for_its_scope_and_says_so() {
    let dir = stage();
    let scopes = ["write", "read", "admin", "metrics"];
    let keys = scopes.map(|scope| key(dir.path(), scope, scope));
    let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), dir.path());
    site.flags = ["--keys".into(), dir.path().join("keys.yaml").display().to_string()].into();
    let service = site.start();
    let client = Client(site.listen.clone());

    let description = client.get("/openapi.json").unwrap().json();
    let mut described = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let refused = operation["responses"]["403"]["description"].as_str();
            let scope = refused.map(|refused| refused.split('`').nth(1).unwrap().to_owned());
            assert_eq!(scope.is_none(), operation["security"] == serde_json::json!([]), "{method} {path}");
            described.push((method.to_uppercase(), path.clone(), scope));
        }
    }
    let listed = ROUTES.iter().filter(|(.., is_described)| *is_described);
    let listed =
        listed.map(|(method, path, scope, _)| (method.to_string(), path.to_string(), scope.map(str::to_owned)));
    let mut listed: Vec<_> = listed.collect();
    listed.sort();
    described.sort();
    assert_eq!(described, listed);

    let parameters =
        [("{subject_id}", "a:1"), ("{actor_id}", "u1"), ("{metric}", "likes"), ("{board}", "hot"), ("{receipt}", "x")];
    for (method, path, scope, _) in ROUTES {
        let path = parameters.iter().fold(path.to_string(), |path, (name, value)| path.replace(name, value));
        let status = |headers: &[(&str, &str)]| client.exchange(method, &path, headers, b"").unwrap().status;
        let open = status(&[]);
        assert_eq!(open == 401, scope.is_some(), "{method} {path}: {open}");
        for (own, key) in scopes.iter().zip(&keys) {
            let allowed =
                scope.is_none_or(|scope| scope == *own || *own == "admin" && ["read", "metrics"].contains(&scope));
            let told = status(&[("x-api-key", key)]);
            assert!(told != 401 && (told != 403) == allowed, "{method} {path} with {own}: {told}");
        }
    }
    drop(service);
}
