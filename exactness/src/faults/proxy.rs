//! A proxy that cuts connections at chosen requests: before a request reaches the server, or after the server has
//! executed it and before the client gets the response; or it keeps the request, and delivers it when the client has given
//! up long ago.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A server that has not answered a late request after this time has not taken it.
const ANSWER: Duration = Duration::from_secs(5);

/// The protocol of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Kafka's, in which the requests are known.
    Kafka,
    /// That of MySQL and MariaDB.
    MySql,
    /// RESP.
    Redis,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Which request: [`REQUESTS`] has their names.
    pub request: &'static str,
    /// What is lost with it.
    pub loss: Loss,
}

/// What is lost with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server does not get the request.
    Request,
    /// The server gets it, and its answer is lost.
    Answer,
    /// The server gets it at [`Proxy::deliver`], over the connection that the client has given up.
    Late,
}

impl Loss {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Request, Self::Answer, Self::Late];
}

/// The requests that decide something, by protocol.
pub const REQUESTS: [(Protocol, &[&str]); 3] = [
    (
        Protocol::Kafka,
        &[
            "Produce",
            "TxnOffsetCommit",
            "EndTxn",
            "AddPartitionsToTxn",
            "AddOffsetsToTxn",
            "InitProducerId",
            "Fetch",
            "JoinGroup",
        ],
    ),
    (Protocol::MySql, &["COMMIT", "any"]),
    (Protocol::Redis, &["EVALSHA", "any"]),
];

/// Listens until the process ends.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    armed: Mutex<Option<Cut>>,
    cuts: AtomicU64,
    kept: Mutex<Vec<Kept>>,
}

/// A request that was not delivered yet.
struct Kept {
    server: TcpStream,
    bytes: Vec<u8>,
    line: Arc<Line>,
}

/// The state of a connection.
#[derive(Default)]
struct Line {
    /// The next answer does not arrive.
    lost: AtomicBool,
    /// The client has disconnected, and the server's response is dropped.
    late: AtomicBool,
    /// The server's responses since then, in reads.
    answers: AtomicU64,
}

impl Proxy {
    /// Forwards what comes to a port of its own.
    pub fn start(listener: TcpListener, upstream: String, protocol: Protocol) -> Self {
        let (address, plan) = (listener.local_addr().unwrap(), Arc::<Plan>::default());
        let proxy = Self { address, plan: plan.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down refuses, and so does the proxy.
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                Pipe { protocol, plan: plan.clone(), line: Arc::default() }.start(client, server);
            }
        });
        proxy
    }

    /// The next such request is cut.
    pub fn arm(&self, cut: Cut) {
        *self.plan.armed.lock().unwrap() = Some(cut);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.plan.cuts.load(Ordering::Relaxed)
    }

    /// Delivers what was kept, and waits until the server has answered; how many requests that were.
    pub fn deliver(&self) -> usize {
        let kept = std::mem::take(&mut *self.plan.kept.lock().unwrap());
        kept.into_iter().filter_map(Kept::deliver).count()
    }
}

impl Kept {
    /// None where the server was restarted meanwhile, or does not answer.
    fn deliver(mut self) -> Option<()> {
        let before = self.line.answers.load(Ordering::SeqCst);
        self.server.write_all(&self.bytes).ok()?;
        let deadline = Instant::now() + ANSWER;
        while self.line.answers.load(Ordering::SeqCst) == before {
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.server.shutdown(Shutdown::Both);
        Some(())
    }
}

struct Pipe {
    protocol: Protocol,
    plan: Arc<Plan>,
    line: Arc<Line>,
}

impl Pipe {
    fn start(self, client: TcpStream, server: TcpStream) {
        let (Ok(to_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        let line = self.line.clone();
        thread::spawn(move || self.requests(client, server));
        thread::spawn(move || answers(from_server, to_client, &line));
    }

    fn requests(self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut frames = Frames::default();
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let names = frames.names(self.protocol, &buffer[..count]);
            match self.cut(&names) {
                Some(Loss::Request) => break,
                Some(Loss::Answer) => self.line.lost.store(true, Ordering::SeqCst),
                Some(Loss::Late) => {
                    self.line.late.store(true, Ordering::SeqCst);
                    let _ = client.shutdown(Shutdown::Both);
                    let bytes = buffer[..count].to_vec();
                    self.plan.kept.lock().unwrap().push(Kept { server, bytes, line: self.line });
                    return;
                }
                None => {}
            }
            if server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    /// What is lost, if a client waits for one of these requests.
    fn cut(&self, names: &[&'static str]) -> Option<Loss> {
        let mut armed = self.plan.armed.lock().unwrap();
        let cut = armed.filter(|cut| cut.request == "any" || names.contains(&cut.request))?;
        *armed = None;
        self.plan.cuts.fetch_add(1, Ordering::Relaxed);
        Some(cut.loss)
    }
}

fn answers(mut server: TcpStream, mut client: TcpStream, line: &Line) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        if line.late.load(Ordering::SeqCst) {
            line.answers.fetch_add(1, Ordering::SeqCst);
        } else if line.lost.load(Ordering::SeqCst) || client.write_all(&buffer[..count]).is_err() {
            // An answer that came while the connection was being given up is no reason to lose the request.
            if !line.late.load(Ordering::SeqCst) {
                break;
            }
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
        25 => "AddOffsetsToTxn",
        26 => "EndTxn",
        28 => "TxnOffsetCommit",
        _ => return None,
    })
}
