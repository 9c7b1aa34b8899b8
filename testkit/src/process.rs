//! Processes in general: signals, ports, the time.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sends a signal, named as `kill` names it, like `-STOP`.
pub fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(process.to_string()).status().unwrap();
    assert!(sent.success(), "kill {signal} {process}");
}

/// Milliseconds since 1970, by the wall clock.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A port that stays free while its process is down: outside of the range that connections take their own ports from.
pub fn quiet_port() -> u16 {
    let random = RandomState::new();
    let mut ports = (0u64..).map(|attempt| 10_000 + (random.hash_one(attempt) % 20_000) as u16);
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}
