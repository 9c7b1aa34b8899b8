//! Dealing: each line goes to the lane of its actor.

use super::LANE_QUEUE;
use super::delivery::Batch;
use super::input::{Input, LINE_BYTES_MAX, Line, Lines};
use super::report::Report;
use crate::commands::Failure;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// A batch that is not full leaves after so long, if its lane has nothing else to do.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// The shortest wait for the pace: waits cost something too.
const WAIT_MIN: Duration = Duration::from_millis(2);
/// What was missed further back than this is not caught up with.
const LAG_MAX: Duration = Duration::from_millis(100);

/// Deals lines to lanes. Blocks where a lane has enough.
pub struct Dealer {
    lanes: Vec<Lane>,
    batch_max: usize,
    pace: Option<Pace>,
    report: Arc<Report>,
    stop: CancellationToken,
}

struct Lane {
    sender: Sender<Batch>,
    batch: Batch,
    /// When the first line of the batch came.
    since: Instant,
}

/// The lanes accept nothing any more, for reasons that they report.
struct Ended;

impl Dealer {
    /// `batch_max` is the most lines in a batch.
    pub fn new(
        senders: Vec<Sender<Batch>>,
        batch_max: usize,
        pace: Option<Pace>,
        report: Arc<Report>,
        stop: CancellationToken,
    ) -> Self {
        let lane = |sender| Lane { sender, batch: Batch::default(), since: Instant::now() };
        Self { lanes: senders.into_iter().map(lane).collect(), batch_max, pace, report, stop }
    }

    /// Deals the whole input; fails where it cannot be read to its end.
    pub fn deal(mut self, input: Input) -> Result<(), Failure> {
        let (chunks, mut lines) = (input.read(), Lines::default());
        loop {
            let dealt = match chunks.recv_timeout(FLUSH_AFTER) {
                Ok(Ok(chunk)) => {
                    lines.cut(&chunk, &mut |number, line| self.take(number, line)).and_then(|()| self.flush_old())
                }
                // Lines that were read before are still sent.
                Ok(Err(failure)) => return self.flush_all().map_or(Ok(()), |()| Err(failure)),
                Err(RecvTimeoutError::Timeout) => self.flush_old(),
                Err(RecvTimeoutError::Disconnected) => {
                    let rest = lines.finish(&mut |number, line| self.take(number, line));
                    // Closed lanes have reported the reason.
                    let _ = rest.and_then(|()| self.flush_all());
                    return Ok(());
                }
            };
            if dealt.is_err() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, number: u64, line: Line<'_>) -> Result<(), Ended> {
        self.keep_pace()?;
        let line = match line {
            // The ingest API does not count empty lines either.
            Line::Whole(line) if text_of(number, line).trim_ascii().is_empty() => return Ok(()),
            Line::Whole(line) => text_of(number, line),
            Line::TooLong => {
                self.report.reject(number, "longer than 1 MiB, and no ingest API takes that");
                return Ok(());
            }
        };
        let at = lane_of(line, self.lanes.len());
        let lane = &mut self.lanes[at];
        if lane.batch.lines.len() + line.len() >= LINE_BYTES_MAX {
            lane.flush()?;
        }
        if lane.batch.numbers.is_empty() {
            lane.since = Instant::now();
        }
        lane.batch.lines.extend_from_slice(line);
        lane.batch.lines.push(b'\n');
        lane.batch.numbers.push(number);
        if lane.batch.numbers.len() >= self.batch_max { lane.flush() } else { Ok(()) }
    }

    /// Batches leave while a line waits for its time.
    fn keep_pace(&mut self) -> Result<(), Ended> {
        while let Some(wait) = self.pace.as_mut().and_then(Pace::wait) {
            if self.stop.is_cancelled() {
                return Err(Ended);
            }
            self.flush_old()?;
            std::thread::sleep(wait.min(FLUSH_AFTER));
        }
        Ok(())
    }

    fn flush_old(&mut self) -> Result<(), Ended> {
        let old = |lane: &&mut Lane| lane.since.elapsed() >= FLUSH_AFTER && lane.sender.capacity() == LANE_QUEUE;
        self.lanes.iter_mut().filter(old).try_for_each(Lane::flush)
    }

    fn flush_all(&mut self) -> Result<(), Ended> {
        self.lanes.iter_mut().try_for_each(Lane::flush)
    }
}

impl Lane {
    fn flush(&mut self) -> Result<(), Ended> {
        if self.batch.numbers.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(std::mem::take(&mut self.batch)).map_err(|_| Ended)
    }
}

/// A line without the byte order mark that may stand before the first one: in a batch it would stand anywhere.
fn text_of(number: u64, line: &[u8]) -> &[u8] {
    let marked = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1);
    marked.unwrap_or(line)
}

/// Lines whose actor is unknown go to the first lane: the ingest API judges them.
fn lane_of(line: &[u8], lanes: usize) -> usize {
    #[derive(Deserialize)]
    struct Actor<'a> {
        #[serde(borrow, default)]
        actor_id: Cow<'a, str>,
    }
    match tally_model::from_object::<Actor<'_>>(line) {
        Ok(Actor { actor_id }) if !actor_id.is_empty() => (xxh3_64(actor_id.as_bytes()) % lanes as u64) as usize,
        _ => 0,
    }
}

/// Limits the lines per second.
pub struct Pace {
    per_second: u64,
    begun: Instant,
    lines: u64,
}

impl Pace {
    /// A limit that starts now.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, begun: Instant::now(), lines: 0 }
    }

    /// None where the next line may go: it is counted. Otherwise how long to wait at least before asking again.
    pub fn wait(&mut self) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.lines as f64 / self.per_second as f64);
        let elapsed = self.begun.elapsed();
        if elapsed < due {
            return Some((due - elapsed).max(WAIT_MIN));
        }
        if elapsed > due + LAG_MAX {
            self.begun += elapsed - due - LAG_MAX;
        }
        self.lines += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_has_one_lane_however_it_is_written() {
        let lane = |line: &str| lane_of(line.as_bytes(), 64);
        let home = lane(r#"{"actor_id":"u1"}"#);
        assert_ne!(home, 0);
        assert_eq!(
            home,
            lane(r#"{"event_id":"\"actor_id\":\"u2\"","properties":{"actor_id":"u3"},"actor_id":"\u00751"}"#)
        );
        for line in ["", "x", "[1]", "{}", r#"{"actor_id":7}"#, r#"{"actor_id":null}"#, r#"{"actor_id":"u1""#] {
            assert_eq!(lane(line), 0, "{line}");
        }
        assert_eq!(lane_of(b"{\"actor_id\":\"u1\xff\"}", 64), 0);
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_line() {
        assert_eq!(text_of(1, b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(text_of(2, b"\xef\xbb\xbf{}"), b"\xef\xbb\xbf{}");
        assert_eq!(text_of(1, b"{}"), b"{}");
    }

    #[test]
    fn all_lanes_are_used() {
        let lanes: std::collections::HashSet<_> =
            (0..1_000).map(|i| lane_of(format!(r#"{{"actor_id":"u{i}"}}"#).as_bytes(), 8)).collect();
        assert_eq!(lanes.len(), 8);
    }

    #[test]
    fn a_pace_is_kept_and_an_outage_is_not_caught_up_with() {
        let mut pace = Pace::new(1_000);
        pace.begun = Instant::now() - Duration::from_secs(60);
        let at_once = std::iter::from_fn(|| pace.wait().is_none().then_some(())).take(100_000).count();
        assert!((100..300).contains(&at_once), "{at_once}");
    }
}
