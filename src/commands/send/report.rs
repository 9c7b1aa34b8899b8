//! What was delivered so far, and the report at the end.

use super::client::Rejected;
use crate::commands::Failure;
use indicatif::HumanCount;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Rejected lines that are shown.
const SHOWN_MAX: u64 = 10;

/// Shared by all that deliver.
pub struct Report {
    begun: Instant,
    give_up: Duration,
    /// When something was acknowledged last, in ms since `begun`.
    acknowledged_ms: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    bytes: AtomicU64,
    again: AtomicU64,
    shown: Mutex<Vec<String>>,
    acks: Option<Mutex<File>>,
}

impl Report {
    /// Nothing yet. `give_up` is how long to go on without any acknowledgement.
    pub fn new(give_up: Duration) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            begun: Instant::now(),
            give_up,
            acknowledged_ms: zero(),
            accepted: zero(),
            rejected: zero(),
            bytes: zero(),
            again: zero(),
            shown: Mutex::default(),
            acks: None,
        }
    }

    /// Also writes down which lines are dealt with.
    pub fn with_acks(self, file: File) -> Self {
        Self { acks: Some(Mutex::new(file)), ..self }
    }

    /// The ingest API has answered for these lines.
    pub fn taken(&self, numbers: &[u64], bytes: usize, rejected: &[Rejected]) -> io::Result<()> {
        self.acknowledged_ms.store(self.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.accepted.fetch_add((numbers.len() - rejected.len()) as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        for Rejected { index, error, .. } in rejected {
            self.reject(numbers[*index], error);
        }
        let Some(acks) = &self.acks else { return Ok(()) };
        let mut line: String = numbers.iter().map(|number| format!("{number} ")).collect();
        line.replace_range(line.len() - 1.., "\n");
        // One write, so that a line is either complete or missing.
        let mut file = acks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.write_all(line.as_bytes())
    }

    /// A line that no ingest API takes.
    pub fn reject(&self, number: u64, error: &str) {
        if self.rejected.fetch_add(1, Ordering::Relaxed) < SHOWN_MAX {
            let mut shown = self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            shown.push(format!("line {number}: {error}"));
        }
    }

    /// A request has to be sent again.
    pub fn again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    /// How long to go on without an acknowledgement; zero is the end of it.
    pub fn patience(&self) -> Duration {
        let acknowledged = Duration::from_millis(self.acknowledged_ms.load(Ordering::Relaxed));
        self.give_up.saturating_sub(self.begun.elapsed().saturating_sub(acknowledged))
    }

    /// See [`Report::new`].
    pub fn give_up(&self) -> Duration {
        self.give_up
    }

    /// Events that the log has.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Lines that were rejected as invalid.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Bytes of lines that are dealt with.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The outcome so far in a line for people.
    pub fn summary(&self) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        let (accepted, rejected, again) = (self.accepted(), self.rejected(), self.again.load(Ordering::Relaxed));
        let rate = HumanCount(((accepted + rejected) as f64 / seconds) as u64);
        let again = if again > 0 { format!(", {} requests sent again", HumanCount(again)) } else { String::new() };
        let (accepted, rejected) = (HumanCount(accepted), HumanCount(rejected));
        format!("{accepted} accepted, {rejected} rejected in {seconds:.1} s: {rate} events/s{again}")
    }

    /// Prints the report: the first rejected lines on stderr, the counts on stdout.
    pub fn print(&self, json: bool) {
        let shown = std::mem::take(&mut *self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for line in &shown {
            eprintln!("{line}");
        }
        let more = self.rejected() - shown.len() as u64;
        if more > 0 {
            eprintln!("and {} more were rejected", HumanCount(more));
        }
        if !json {
            println!("{}", self.summary());
            return;
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let (accepted, rejected) = (self.accepted(), self.rejected());
        let object = serde_json::json!({
            "accepted": accepted,
            "rejected": rejected,
            "requests_sent_again": self.again.load(Ordering::Relaxed),
            "seconds": (seconds * 1_000.0).round() / 1_000.0,
            "events_per_second": ((accepted + rejected) as f64 / seconds).round(),
        });
        println!("{object}");
    }

    /// Adds to a failure the progress so far and the remedy.
    pub fn how_to_resume(&self, failure: Failure) -> Failure {
        let lines = HumanCount(self.accepted() + self.rejected());
        let resume =
            format!("{lines} lines were acknowledged. Send the whole file again: what the log has counts once");
        match failure {
            Failure::No(reason) => Failure::No(format!("{reason}\n{resume}")),
            usage => usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_dealt_with_are_written_down() {
        let mut file = tempfile::tempfile().unwrap();
        let report = Report::new(Duration::from_secs(1)).with_acks(file.try_clone().unwrap());
        let rejected = [Rejected { index: 1, error: "no".to_owned(), retry_after: None }];
        report.taken(&[3, 5, 6], 30, &rejected).unwrap();
        report.taken(&[4], 10, &[]).unwrap();
        assert_eq!((report.accepted(), report.rejected(), report.bytes()), (3, 1, 40));
        assert_eq!(*report.shown.lock().unwrap(), ["line 5: no"]);
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "3 5 6\n4\n");
    }

    #[test]
    fn patience_ends() {
        assert!(Report::new(Duration::from_secs(60)).patience() > Duration::from_secs(50));
        assert!(Report::new(Duration::ZERO).patience().is_zero());
    }
}
