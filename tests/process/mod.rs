//! Processes of the real binary, each with a directory of its own, and a plain client for what they serve.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod client;
mod scratch;
mod sender;
mod service;

pub use client::Client;
pub use scratch::Scratch;
pub use sender::Sender;
pub use service::{Service, Site};

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally::workload::Random;

/// Nothing that a test waits for takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until the answer is some, for as long as anybody would.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        // Between two questions: the condition is what is waited for.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A signal as `kill` names it.
pub fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(process.to_string()).status().unwrap();
    assert!(sent.success(), "kill {signal} {process}");
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A port that stays free while its process is down: outside of the range that connections take their own ports from.
pub fn quiet_port() -> u16 {
    let mut random = Random::new(u64::from(std::process::id()) ^ nanoseconds());
    loop {
        let port = 10_000 + random.below(20_000) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn nanoseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}
