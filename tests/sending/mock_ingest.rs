//! A mock ingest API that does what a test sets, and records the requests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What the mock ingest API does with a request.
pub enum Reply {
    /// 202 for all of it.
    Taken,
    /// Any answer; `headers` are whole lines.
    Answer { status: u16, headers: &'static str, body: String },
    /// Closes the connection instead.
    HangUp,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::with(status, "")
    }

    pub fn with(status: u16, headers: &'static str) -> Self {
        let body = format!(r#"{{"type":"t","title":"Title","status":{status},"detail":"detail","request_id":"r"}}"#);
        Self::Answer { status, headers, body }
    }
}

/// A request as it came.
#[derive(Clone)]
pub struct Received {
    pub at: Instant,
    /// In lower case.
    pub head: String,
    pub body: String,
    /// Whether another request was being answered.
    pub alone: bool,
}

impl Received {
    pub fn lines(&self) -> Vec<&str> {
        self.body.lines().collect()
    }
}

type Script = dyn Fn(usize, &Received) -> Reply + Send + Sync;

/// Serves until the test ends.
pub struct MockIngest {
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

struct Shared {
    script: Box<Script>,
    received: Arc<Mutex<Vec<Received>>>,
    under_way: Mutex<usize>,
}

impl MockIngest {
    /// `script` returns the reaction to the n-th request, from 0.
    pub fn start(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { script: Box::new(script), received: received.clone(), under_way: Mutex::new(0) };
        let shared = Arc::new(shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                // A client that leaves ends its connection, and nothing else.
                std::thread::spawn(move || stream.and_then(|stream| shared.serve(&stream)));
            }
        });
        Self { address, received }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Every line that came so far.
    pub fn lines(&self) -> Vec<String> {
        self.received().iter().flat_map(|request| request.lines().into_iter().map(str::to_owned)).collect()
    }
}

impl Shared {
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let line = line.to_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let Some(answer) = self.answer(head, String::from_utf8_lossy(&body).into_owned()) else { return Ok(()) };
            stream.write_all(answer.as_bytes())?;
        }
    }

    fn answer(&self, head: String, body: String) -> Option<String> {
        let mut under_way = self.under_way.lock().unwrap();
        *under_way += 1;
        let request = Received { at: Instant::now(), head, body, alone: *under_way == 1 };
        drop(under_way);
        let mut received = self.received.lock().unwrap();
        let number = received.len();
        received.push(request.clone());
        drop(received);
        let reply = (self.script)(number, &request);
        *self.under_way.lock().unwrap() -= 1;
        let (status, headers, body) = match reply {
            Reply::HangUp => return None,
            Reply::Answer { status, headers, body } => (status, headers, body),
            Reply::Taken => {
                let taken = request.lines().len();
                (202, "", format!(r#"{{"accepted":{taken},"rejected":[],"receipt":"r"}}"#))
            }
        };
        let length = body.len();
        Some(format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n{body}"))
    }
}
