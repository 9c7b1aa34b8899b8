//! Whether a Redis will ever be reached under its address.

use super::address::RedisAddress;
use super::shards::{RedisTimeouts, connect_once};
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_millis(1_500), response: Duration::from_millis(1_500) };

/// Connects once. A Redis that does not answer now may come back; what a person must put right is an error, in one
/// sentence and without a password. It blocks.
pub fn reach(address: &RedisAddress) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let Err(error) = runtime.block_on(connect_once(address, TIMEOUTS)) else { return Ok(()) };
    // What came instead of an answer may be anything.
    let text: String = error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match todo(&error) {
        Some(todo) => Err(format!("{address}: {text}: {todo}")),
        None if address.tls && address.nodes.iter().any(|(host, port)| speaks_plainly(host, *port)) => {
            Err(format!("{address}: the server does not speak TLS: the scheme without it is `redis`"))
        }
        None => Ok(()),
    }
}

/// Whether a server answers a command without TLS: it waits for the end of a line that a handshake does not have.
fn speaks_plainly(host: &str, port: u16) -> bool {
    let first = || -> io::Result<u8> {
        let address = (host, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUTS.connect)?;
        stream.set_read_timeout(Some(TIMEOUTS.response))?;
        stream.write_all(b"PING\r\n")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok(first[0])
    };
    matches!(first(), Ok(b'+' | b'-'))
}

/// What to do about an error; None where it may go away by itself.
fn todo(error: &RedisError) -> Option<&'static str> {
    const LOGIN: &str = "check user and password in the address";
    const PROTOCOL: &str =
        "check host and port, and whether the scheme is that of the server: `redis`, with TLS `rediss`";
    match error.kind() {
        ErrorKind::AuthenticationFailed => Some(LOGIN),
        ErrorKind::Server(ServerErrorKind::NoPerm) => Some("give this user the commands that tally needs"),
        ErrorKind::InvalidClientConfig => Some("check the address"),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Some(PROTOCOL),
        ErrorKind::Io => {
            // TLS reports a bad certificate in this way, and bytes that are not TLS.
            let shared = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
            let io = shared.and_then(|error| error.downcast_ref::<io::Error>());
            io.filter(|error| error.kind() == io::ErrorKind::InvalidData)?;
            match error.to_string().contains("certificate") {
                true => {
                    Some("give the server a certificate for the name in the address, or its authority by `?ca=FILE`")
                }
                false => Some(PROTOCOL),
            }
        }
        _ => match error.code() {
            Some("NOAUTH" | "WRONGPASS") => Some(LOGIN),
            Some("ERR") => {
                let text = error.to_string();
                let about = |words: &str| text.to_ascii_lowercase().contains(words);
                if about("cluster support disabled") {
                    Some("it is not a Cluster: use `redis://`")
                } else if about("db index is out of range") || about("invalid db index") {
                    Some("it has no such database")
                } else if about("password") || about("authentication") {
                    Some(LOGIN)
                } else {
                    None
                }
            }
            _ => None,
        },
    }
}
