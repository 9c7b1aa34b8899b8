//! What cannot heal by waiting ends the start: on every engine, with exit code 2, within 10 s and in one sentence. What may
//! heal does not.

use super::{stage, tally};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_testkit::{quiet_port, service};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(10);
/// Processes that are started at the same time.
const AT_ONCE: usize = 3;

const AUTHORITY: &str = include_str!("tls/authority.pem");
/// For `other.example`, signed by that authority.
const SERVER: &str = include_str!("tls/server.pem");
const SERVER_KEY: &str = include_str!("tls/server.key");

/// Command line, exit code, and what the last line of standard error contains.
type Case = (String, i32, &'static str);

/// Runs `tally` for each case. No output may contain a password.
fn refuse(dir: &Path, cases: &[Case]) {
    let mut wrong = Vec::new();
    for cases in cases.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let run = |case: &Case| {
                let line = format!("{} --listen 127.0.0.1:{}", case.0, quiet_port());
                let (begun, output) = (Instant::now(), tally(dir, &line));
                (case.clone(), output, begun.elapsed())
            };
            let running: Vec<_> = cases.iter().map(|case| scope.spawn(move || run(case))).collect();
            for running in running {
                let ((line, code, words), output, took) = running.join().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                let last = said.lines().last().unwrap_or_default();
                println!("{took:?} {line}: {last}");
                let in_time = took < PROMISED || code != 2;
                if output.status.code() != Some(code) || !last.contains(words) || !in_time || said.contains("secret") {
                    wrong
                        .push(format!("{line}: {:?} after {took:?}, not {code} with {words:?}: {said}", output.status));
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `host:port` of a URL.
fn host(url: &str) -> &str {
    let rest = url.rsplit(['@']).next().unwrap_or(url);
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[test]
fn a_kafka_that_will_never_let_in_is_told_apart() {
    let (Some(plain), Some(secure), Some(properties)) =
        (service("TALLY_TEST_KAFKA"), service("TALLY_TEST_KAFKA_SECURE"), service("TALLY_TEST_KAFKA_PROPERTIES"))
    else {
        return;
    };
    let (mariadb, redis) = (service("TALLY_TEST_MARIADB"), service("TALLY_TEST_REDIS"));
    let dir = stage();
    let good = fs::read_to_string(properties).unwrap();
    let without = |word: &str| {
        good.lines().filter(|line| !line.contains(word)).fold(String::new(), |all, line| all + line + "\n")
    };
    for (name, text) in [
        ("good", good.clone()),
        ("password", without("sasl.password") + "sasl.password=secret\n"),
        ("user", without("sasl.username") + "sasl.username=nobody\n"),
        ("mechanism", without("sasl.mechanism") + "sasl.mechanism=SCRAM-SHA-256\n"),
        ("authority", without("ssl.ca.location")),
        ("no-sasl", without("sasl").replace("SASL_SSL", "SSL") + "security.protocol=SSL\n"),
        ("no-tls", without("ssl.ca.location").replace("SASL_SSL", "SASL_PLAINTEXT")),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let port = secure.rsplit(':').next().unwrap();
    let case = |brokers: &str, file: &str, code: i32, words: &'static str| {
        let file = if file.is_empty() { String::new() } else { format!("--log-properties {file}") };
        (format!("ingest --log kafka://{brokers} {file}"), code, words)
    };
    let mut cases = vec![
        case(&secure, "", 2, "speaks TLS: name a file with security.protocol=SSL"),
        case(&secure, "no-tls", 2, "speaks TLS"),
        case(&plain, "good", 2, "does not speak TLS"),
        case(&secure, "password", 2, "does not accept the login"),
        case(&secure, "user", 2, "does not accept the login"),
        case(&secure, "mechanism", 2, "does not accept the login"),
        case(&secure, "authority", 2, "its certificate is not accepted"),
        case(&format!("localhost:{port}"), "good", 2, "its certificate is not accepted"),
        case("host.invalid:9092", "", 1, "the log does not answer"),
        case("127.0.0.1:1", "", 1, "the log does not answer"),
    ];
    cases.extend(mariadb.iter().chain(&redis).map(|url| case(host(url), "", 2, "is not Kafka")));
    refuse(dir.path(), &cases);
}

#[test]
fn a_store_that_will_never_let_in_is_told_apart() {
    let (Some(kafka), Some(mariadb), Some(redis)) =
        (service("TALLY_TEST_KAFKA"), service("TALLY_TEST_MARIADB"), service("TALLY_TEST_REDIS"))
    else {
        return;
    };
    let dir = stage();
    fs::write(dir.path().join("authority.pem"), AUTHORITY).unwrap();
    let (database, cache) = (host(&mariadb), host(&redis));
    let (mysql_tls, redis_tls) = (tls_server(&greeting()), tls_server(&[]));
    let strict = "ssl-mode=VERIFY_IDENTITY";
    let mut cases = Vec::new();
    for role in ["sink --state sink", "api", "run --state run"] {
        let case = |flag: &str, url: String, words: &'static str| {
            (format!("{role} --log kafka://{kafka} {flag} {url}"), 2, words)
        };
        cases.extend([
            case("--database", format!("mysql://tally:secret@{database}/tally"), "check user, password and grants"),
            case("--database", format!("mysql://tally:tally@{database}/nowhere"), "create it, or name another"),
            case(
                "--database",
                format!("mysql://tally:tally@{database}/tally?{strict}"),
                "check host, port and `ssl-mode`",
            ),
            case(
                "--database",
                format!("mysql://u:secret@{mysql_tls}/db?{strict}&ssl-ca=authority.pem"),
                "give the server a certificate",
            ),
            case("--database", format!("mysql://u:secret@{mysql_tls}/db?{strict}"), "give the server a certificate"),
            case("--database", format!("mysql://u:secret@{mysql_tls}/db?{strict}&ssl-ca=missing.pem"), "missing.pem"),
            case("--database", "sqlite:folder".into(), "it is a directory"),
            case("--database", "sqlite:text".into(), "it is not a SQLite database"),
            case("--database sqlite:new.db --cache", format!("redis://:secret@{cache}"), "check user and password"),
            case("--database sqlite:new.db --cache", format!("redis://{cache}/99"), "it has no such database"),
            case("--database sqlite:new.db --cache", format!("redis+cluster://{cache}"), "it is not a Cluster"),
            case("--database sqlite:new.db --cache", format!("rediss://{cache}"), "does not speak TLS"),
            case(
                "--database sqlite:new.db --cache",
                format!("redis://{database}"),
                "whether the scheme is that of the server",
            ),
            case(
                "--database sqlite:new.db --cache",
                format!("rediss://{redis_tls}?ca=authority.pem"),
                "give the server a certificate",
            ),
            case("--database sqlite:new.db --cache", format!("rediss://{redis_tls}"), "give the server a certificate"),
        ]);
    }
    cases.push((format!("ingest --log kafka://{kafka} --cache redis://:secret@{cache}"), 2, "check user and password"));
    refuse(dir.path(), &cases);
}

/// The first packet of a MySQL server: its version, and that it supports TLS.
fn greeting() -> Vec<u8> {
    let (protocol_41, tls, secure, plugin) = (1_u32 << 9, 1_u32 << 11, 1_u32 << 15, 1_u32 << 19);
    let capabilities = (protocol_41 | tls | secure | plugin | 1 << 3).to_le_bytes();
    let mut body = b"\x0a8.4.0\0\x01\0\0\0abcdefgh\0".to_vec();
    body.extend(&capabilities[..2]);
    body.extend([45, 2, 0]);
    body.extend(&capabilities[2..]);
    body.push(21);
    body.extend([0; 10]);
    body.extend(b"ijklmnopqrst\0mysql_native_password\0");
    let mut packet = vec![body.len() as u8, 0, 0, 0];
    packet.append(&mut body);
    packet
}

/// A server that sends a first packet, if given, and then uses TLS with a certificate for another name; after a first
/// packet, the client sends 36 bytes before TLS. Returns its address.
fn tls_server(greeting: &[u8]) -> String {
    let certificate = CertificateDer::from_pem_slice(SERVER.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let greeting = greeting.to_vec();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (config, greeting) = (config.clone(), greeting.clone());
            std::thread::spawn(move || serve(&mut stream, &greeting, config));
        }
    });
    address
}

/// Whether the client leaves in the middle is its own affair.
fn serve(stream: &mut TcpStream, greeting: &[u8], config: Arc<rustls::ServerConfig>) -> Option<()> {
    stream.write_all(greeting).ok()?;
    if !greeting.is_empty() {
        stream.read_exact(&mut [0; 36]).ok()?;
    }
    let mut connection = rustls::ServerConnection::new(config).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(stream).ok()?;
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(drop).ok()
}
