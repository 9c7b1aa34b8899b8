//! Whose bucket an address is.

use super::*;
use crate::metrics::AccessMetrics;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use tally_http::{Server, ServerConfig, peer_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn who_has_many_addresses_has_one_bucket() {
    let metrics = AccessMetrics::new(&prometheus::Registry::new()).unwrap();
    for (ipv6_prefix_bits, ips, expected) in [
        (64, ["203.0.113.9", "::ffff:203.0.113.9", "::FFFF:cb00:7109"], [true, false, false]),
        (64, ["2001:db8::1", "2001:DB8:0:0::2", "2001:db8::ffff:0:0:9"], [true, false, false]),
        (64, ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1"], [true, true, true]),
        (48, ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1"], [true, false, true]),
        (128, ["2001:db8::1", "2001:db8::2", "2001:0db8::1"], [true, true, false]),
    ] {
        for (per_ip, per_actor) in [(Some(1), None), (None, Some(1))] {
            let buckets = Arc::new(Buckets::new(None, metrics.clone()));
            let switches = vec!["like".to_owned()];
            let limits = ActionLimits { per_ip, per_actor, ipv6_prefix_bits, switches, buckets };
            let mut admitted = Vec::new();
            for ip in ips {
                let action = Action { principal: None, ip, event_type: "like", actor_id: "u1" };
                admitted.push(limits.admit(action).await.is_ok());
            }
            assert_eq!(admitted, expected, "{ips:?} by /{ipv6_prefix_bits}");
        }
    }
}

/// One view by the caller: returns the address that the server sees, or 429 above a limit.
async fn view(State(limits): State<ActionLimits>, request: Request) -> (StatusCode, String) {
    let ip = peer_of(request.extensions()).unwrap().to_string();
    let action = Action { principal: None, ip: &ip, event_type: "view", actor_id: "" };
    let status = if limits.admit(action).await.is_ok() { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    (status, ip)
}

/// The status and the body of the answer to a request from an address to a port.
async fn ask(address: &str, port: u16) -> (String, String) {
    let mut stream = TcpStream::connect(format!("{address}:{port}")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().to_owned();
    (status, answer.rsplit("\r\n").next().unwrap().to_owned())
}

/// A caller by IPv4 has one bucket, whether it calls a socket of IPv4 or one of both families.
#[tokio::test]
async fn a_caller_has_one_bucket_on_sockets_of_one_family_and_of_both() {
    let registry = prometheus::Registry::new();
    let buckets = Arc::new(Buckets::new(None, AccessMetrics::new(&registry).unwrap()));
    let (ipv6_prefix_bits, switches) = (IPV6_PREFIX_BITS, Vec::new());
    let limits = ActionLimits { per_ip: Some(1), per_actor: None, ipv6_prefix_bits, switches, buckets };
    let router = Router::new().route("/", get(view)).with_state(limits);
    let server = Server::new(ServerConfig::default(), &registry).unwrap();
    let stop = CancellationToken::new();
    let mut serving = Vec::new();
    let mut ports = Vec::new();
    for address in ["[::]:0", "127.0.0.1:0"] {
        let listener = TcpListener::bind(address).await.unwrap();
        ports.push(listener.local_addr().unwrap().port());
        let (server, router, stop) = (server.clone(), router.clone(), stop.clone());
        serving.push(tokio::spawn(async move { server.serve(listener, router, stop).await }));
    }
    let [both, ipv4] = ports[..] else { panic!("{ports:?}") };
    let own = |status: &str, ip: &str| (status.to_owned(), ip.to_owned());
    assert_eq!(ask("127.0.0.1", both).await, own("200", "127.0.0.1"));
    assert_eq!(ask("127.0.0.1", ipv4).await, own("429", "127.0.0.1"));
    assert_eq!(ask("[::1]", both).await, own("200", "::1"), "another caller");
    assert_eq!(ask("127.0.0.1", both).await, own("429", "127.0.0.1"));
    stop.cancel();
    for serving in serving {
        serving.await.unwrap();
    }
}
