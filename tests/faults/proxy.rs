//! A proxy that cuts connections at chosen requests: before a request reaches the server, or after the server has done
//! what it asks and before the client hears of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Kafka,
    MySql,
    Redis,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which request: [`REQUESTS`] has their names.
    pub request: &'static str,
    /// Whether the server gets it: then its answer is lost.
    pub answer_only: bool,
}

/// The requests that decide something, by protocol.
pub const REQUESTS: [(Protocol, &[&str]); 3] = [
    (
        Protocol::Kafka,
        &["Produce", "TxnOffsetCommit", "EndTxn", "AddPartitionsToTxn", "InitProducerId", "Fetch", "JoinGroup"],
    ),
    (Protocol::MySql, &["COMMIT", "any"]),
    (Protocol::Redis, &["EVALSHA", "any"]),
];

/// Listens until the process ends.
pub struct Proxy {
    pub address: SocketAddr,
    armed: Arc<Mutex<Option<Cut>>>,
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    /// Forwards what comes to a port of its own.
    pub fn start(listener: TcpListener, upstream: String, protocol: Protocol) -> Self {
        let address = listener.local_addr().unwrap();
        let (armed, cuts) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
        let proxy = Self { address, armed: armed.clone(), cuts: cuts.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down refuses, and so does the proxy.
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let pipe = Pipe { protocol, armed: armed.clone(), cuts: cuts.clone(), lost: Arc::default() };
                pipe.start(client, server);
            }
        });
        proxy
    }

    /// The next such request is cut.
    pub fn arm(&self, cut: Cut) {
        *self.armed.lock().unwrap() = Some(cut);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

struct Pipe {
    protocol: Protocol,
    armed: Arc<Mutex<Option<Cut>>>,
    cuts: Arc<AtomicU64>,
    /// The next answer does not arrive.
    lost: Arc<AtomicBool>,
}

impl Pipe {
    fn start(self, client: TcpStream, server: TcpStream) {
        let (Ok(to_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        let lost = self.lost.clone();
        thread::spawn(move || self.requests(client, server));
        thread::spawn(move || answers(from_server, to_client, &lost));
    }

    fn requests(self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut frames = Frames::default();
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let names = frames.names(self.protocol, &buffer[..count]);
            match self.cut(&names) {
                Some(cut) if !cut.answer_only => break,
                Some(_) => self.lost.store(true, Ordering::SeqCst),
                None => {}
            }
            if server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    /// Whether one of these requests is what somebody waits for.
    fn cut(&self, names: &[&'static str]) -> Option<Cut> {
        let mut armed = self.armed.lock().unwrap();
        let cut = armed.filter(|cut| cut.request == "any" || names.contains(&cut.request))?;
        *armed = None;
        self.cuts.fetch_add(1, Ordering::Relaxed);
        Some(cut)
    }
}

fn answers(mut server: TcpStream, mut client: TcpStream, lost: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if lost.load(Ordering::SeqCst) || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

/// Finds where Kafka's requests begin.
#[derive(Default)]
struct Frames {
    /// Bytes of the present request that are still to come.
    left: usize,
    /// The beginning of a request that was cut between two reads.
    head: Vec<u8>,
}

impl Frames {
    fn names(&mut self, protocol: Protocol, mut bytes: &[u8]) -> Vec<&'static str> {
        let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        match protocol {
            Protocol::MySql => return Vec::from_iter(has(b"COMMIT").then_some("COMMIT")),
            Protocol::Redis => return Vec::from_iter(has(b"EVALSHA").then_some("EVALSHA")),
            Protocol::Kafka => {}
        }
        let mut names = Vec::new();
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - count, &bytes[count..]);
                continue;
            }
            // Length and key of the request.
            let count = (6 - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if let &[a, b, c, d, high, low] = self.head.as_slice() {
                names.extend(kafka_name(i16::from_be_bytes([high, low])));
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(2);
                self.head.clear();
            }
        }
        names
    }
}

fn kafka_name(key: i16) -> Option<&'static str> {
    Some(match key {
        0 => "Produce",
        1 => "Fetch",
        11 => "JoinGroup",
        22 => "InitProducerId",
        24 => "AddPartitionsToTxn",
        26 => "EndTxn",
        28 => "TxnOffsetCommit",
        _ => return None,
    })
}
