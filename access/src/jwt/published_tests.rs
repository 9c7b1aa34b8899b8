//! Keys that are published at an address: real connections on this machine.

use super::super::tests::{NOW_S, jwks, token};
use super::*;
use crate::Moment;
use crate::jwt::JwtRules;
use crate::refusal::Refusal;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const HOUR: Duration = Duration::from_secs(3_600);

/// A publisher of keys that counts the requests.
struct Issuer {
    address: SocketAddr,
    answer: Arc<StdMutex<String>>,
    asked: Arc<AtomicUsize>,
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /keys?v=1 http/1.1\r\n") && head.contains("\r\nhost: "), "{head}");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

impl Issuer {
    async fn start(answer: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(StdMutex::new(answer.to_owned())), Arc::new(AtomicUsize::new(0)));
        let issuer = Self { address, answer: answer.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                match &tls {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => reply(stream, &answer).await,
                        Err(_) => continue,
                    },
                    None => reply(stream, &answer).await,
                }
            }
        });
        issuer
    }

    fn answers(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn keys(&self) -> Result<Arc<TokenKeys>, String> {
        let url = JwksUrl::parse(&format!("http://{}/keys?v=1", self.address), None).unwrap();
        TokenKeys::published(url, HOUR).await.map(Arc::new)
    }
}

fn find(keys: &TokenKeys, token: &str) -> Result<(), Refusal> {
    keys.get().find(token, &JwtRules::default(), Moment::both(NOW_S * 1_000)).map(drop)
}

fn renamed() -> String {
    jwks().replace("\"kid\":\"h\"", "\"kid\":\"h2\"")
}

#[tokio::test]
async fn keys_change_with_what_is_published_and_stay_where_it_is_no_good() {
    let issuer = Issuer::start(&ok(&jwks()), None).await;
    let keys = issuer.keys().await.unwrap();
    let (old, new) = (token(json!({}), json!({})), token(json!({"kid": "h2"}), json!({})));
    assert_eq!((find(&keys, &old), find(&keys, &new)), (Ok(()), Err(Refusal::UnknownKid)));
    assert_eq!((keys.refresh(false).await, issuer.asked()), (Fetched::Same, 1), "it is not time yet");
    let before = keys.get();
    assert_eq!(keys.refresh(true).await, Fetched::Same);
    assert!(Arc::ptr_eq(&before, &keys.get()), "the same text: what was verified stays so");
    let long = ok(&" ".repeat((1 << 20) + 1));
    let torn = format!("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{}", jwks());
    for (answer, why) in [
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "the response has status 500"),
        ("HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n", "redirects are not followed"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "the response has status 404"),
        ("nonsense\r\n\r\n", "invalid HTTP"),
        (&ok("<html>"), "1:1: is not a JWKS"),
        (&ok(r#"{"keys":[]}"#), "1:1: has no key"),
        (&ok(r#"[["oct"]]"#), "1:1: is not a JWKS"),
        (&long, "the body: length limit exceeded"),
        (&torn, "the body: "),
    ] {
        issuer.answers(answer);
        match keys.refresh(true).await {
            Fetched::Failed(said) => assert!(said.contains(why), "{said}\n  not: {why}"),
            other => panic!("{answer}: {other:?}"),
        }
        assert_eq!(find(&keys, &old), Ok(()), "{answer}");
    }
    issuer.answers(&ok(&renamed()));
    assert_eq!(keys.refresh(true).await, Fetched::New);
    assert_eq!((find(&keys, &old), find(&keys, &new)), (Err(Refusal::UnknownKid), Ok(())));
}

#[tokio::test]
async fn an_unknown_kid_is_fetched_once_for_all_waiting_requests() {
    let issuer = Issuer::start(&ok(&jwks()), None).await;
    let keys = issuer.keys().await.unwrap();
    let known = keys.get();
    issuer.answers(&ok(&renamed()));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (keys, known) = (keys.clone(), known.clone());
        waiting.spawn(async move { keys.refresh_for_kid(&known).await });
    }
    assert!(waiting.join_all().await.into_iter().all(|found| found), "all of them find the new keys");
    assert_eq!(issuer.asked(), 2);
    // This kid is unknown too, and it is too early for another fetch.
    let known = keys.get();
    for _ in 0..50 {
        assert!(!keys.refresh_for_kid(&known).await);
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn an_address_that_may_answer_later_does_not_hold_the_start() {
    let issuer = Issuer::start("HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n", None).await;
    let keys = issuer.keys().await.unwrap();
    let good = token(json!({}), json!({}));
    assert_eq!(find(&keys, &good), Err(Refusal::NoKeysYet));
    issuer.answers(&ok(&jwks()));
    assert_eq!((keys.refresh(true).await, find(&keys, &good)), (Fetched::New, Ok(())));
    for (answer, why) in [
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "the response has status 404"),
        (&ok("{}"), "is not a JWKS"),
        (&ok(r#"{"keys":[{"kty":"EC","kid":"x","crv":"P-521"}]}"#), "has no key"),
    ] {
        issuer.answers(answer);
        assert!(issuer.keys().await.err().unwrap_or_default().contains(why), "{answer}");
    }
    // An invalid key does not affect the others.
    issuer.answers(&ok(&jwks().replace("AQAB", "!")));
    assert_eq!(find(&issuer.keys().await.unwrap(), &good), Ok(()));
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[tokio::test]
async fn a_server_is_who_its_certificate_says() {
    let certificate = CertificateDer::from_pem_file(fixture("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let issuer = Issuer::start(&ok(&jwks()), Some(Arc::new(config).into())).await;
    let port = issuer.address.port();
    let ask = async |host: &str, ca: Option<PathBuf>| {
        let url = JwksUrl::parse(&format!("https://{host}:{port}/keys?v=1"), ca.as_deref()).unwrap();
        url.fetch().await
    };
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(ask(host, Some(fixture("localhost.pem"))).await, Ok(jwks()), "{host}");
    }
    let error = ask("localhost", None).await.unwrap_err();
    assert!(error.text.starts_with("TLS: invalid peer certificate") && !error.heals, "{error:?}");
}

#[test]
fn only_an_address_that_is_safe_in_transit_is_fetched() {
    let pem = fixture("localhost.pem");
    for (text, ca, why) in [
        ("https://id.example/keys", None, ""),
        ("https://id.example:8443/keys?v=1", Some(&pem), ""),
        ("HTTPS://[2001:db8::1]/", None, ""),
        ("http://127.0.0.1:8080/keys", None, ""),
        ("http://[::1]/keys", None, ""),
        ("http://[::ffff:127.0.0.1]/keys", None, ""),
        ("http://localhost/keys", None, ""),
        ("http://id.example/keys", None, "without TLS a third party"),
        ("http://192.0.2.1/keys", None, "without TLS"),
        ("http://127.0.0.1.example/keys", None, "without TLS"),
        ("http://127.0.0.1/keys", Some(&pem), "a file of certificates needs an https URL"),
        ("https://me:secret@id.example/keys", None, "user and password are not sent"),
        ("https://id.example/keys#x", None, "a fragment"),
        ("https:///keys", None, "is not a URL"),
        ("https://", None, "is not a URL"),
        ("https://id.example/keys", Some(&fixture("rsa.jwks.json")), "the certificates in "),
        ("https://id.example/keys", Some(&fixture("gone.pem")), "the certificates in "),
    ] {
        assert!(JwksUrl::is_url(text));
        let refused = JwksUrl::parse(text, ca.map(PathBuf::as_path)).err().map(|error| error.to_string());
        let refused = refused.unwrap_or_default();
        assert!(refused.starts_with(why) && refused.is_empty() == why.is_empty(), "{text}: {refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
    assert!(!JwksUrl::is_url("jwks.json") && !JwksUrl::is_url("./http://x"));
}
