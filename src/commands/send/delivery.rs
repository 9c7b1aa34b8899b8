//! Sends a batch until the ingest API has answered for every line of it.

use super::client::{Answer, IngestClient, Rejected};
use super::report::Report;
use crate::commands::Failure;
use crate::workload::Random;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The first pause after a failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause without a `Retry-After`.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long an answer is still waited for once sending is to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Lines that are sent together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with its end.
    pub lines: Vec<u8>,
    /// The number of each line in its file, from 1.
    pub numbers: Vec<u64>,
}

impl Batch {
    /// Only the lines at these places, in the order given.
    fn only(&self, places: &[usize]) -> Self {
        let lines: Vec<_> = self.lines.split_inclusive(|byte| *byte == b'\n').collect();
        let chosen = places.iter().filter_map(|place| Some((lines.get(*place)?, self.numbers.get(*place)?)));
        let (lines, numbers): (Vec<_>, Vec<_>) = chosen.map(|(line, number)| (*line, *number)).unzip();
        Self { lines: lines.concat(), numbers }
    }

    /// The lines up to the middle, and the rest.
    fn halves(self) -> (Self, Self) {
        let (first, second) = self.numbers.split_at(self.numbers.len() / 2);
        let ends = self.lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let middle = ends.map(|(at, _)| at + 1).take(first.len()).last().unwrap_or(0);
        let (head, tail) = self.lines.split_at(middle);
        (
            Self { lines: head.to_vec(), numbers: first.to_vec() },
            Self { lines: tail.to_vec(), numbers: second.to_vec() },
        )
    }
}

/// Delivers one batch after the other.
pub struct Delivery {
    client: Arc<IngestClient>,
    report: Arc<Report>,
    stop: CancellationToken,
    /// Random pauses, so that many senders do not retry at the same moment.
    jitter: Random,
}

impl Delivery {
    /// `stop` ends it with an error after the request in flight.
    pub fn new(client: Arc<IngestClient>, report: Arc<Report>, stop: CancellationToken) -> Self {
        // Without randomness the pauses are merely the same everywhere.
        let seed = getrandom::u64().unwrap_or_default();
        Self { client, report, stop, jitter: Random::new(seed) }
    }

    /// Sends until every line is taken or rejected.
    pub async fn deliver(&mut self, batch: Batch) -> Result<(), Failure> {
        let mut left = VecDeque::from([batch]);
        while let Some(batch) = left.pop_front() {
            if batch.numbers.is_empty() {
                continue;
            }
            if let Some((first, second)) = self.deliver_whole(batch).await? {
                left.push_front(second);
                left.push_front(first);
            }
        }
        Ok(())
    }

    /// Returns the events that are still to be sent: the halves of a batch that is too large for the ingest API, or
    /// events above a limit.
    async fn deliver_whole(&mut self, batch: Batch) -> Result<Option<(Batch, Batch)>, Failure> {
        let Batch { lines, numbers } = batch;
        let lines = Bytes::from(lines);
        let mut pause = PAUSE_MIN;
        loop {
            match self.post(lines.clone()).await? {
                Answer::Taken { accepted, rejected } => {
                    let answered = accepted + rejected.len() as u64;
                    if answered != numbers.len() as u64 || rejected.iter().any(|r| r.index >= numbers.len()) {
                        let sent = numbers.len();
                        return Err(self.failed(&format!("answered for {answered} events where {sent} were sent")));
                    }
                    let (over, rejected): (Vec<_>, Vec<_>) =
                        rejected.into_iter().partition(|rejected| rejected.retry_after.is_some());
                    let batch = Batch { lines: lines.to_vec(), numbers };
                    if over.is_empty() {
                        self.report.taken(&batch.numbers, lines.len(), &rejected).map_err(Failure::no)?;
                        return Ok(None);
                    }
                    return self.later(batch, over, rejected).await;
                }
                Answer::TooLarge(reason) if numbers.len() == 1 => {
                    self.report.reject(numbers[0], &reason);
                    return Ok(None);
                }
                Answer::TooLarge(_) => return Ok(Some(Batch { lines: lines.to_vec(), numbers }.halves())),
                Answer::Refused(reason) => return Err(self.failed(&reason)),
                Answer::Again { reason, after } => {
                    self.pause(pause.max(after.unwrap_or_default()), &reason).await?;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Some lines are over a limit of the ingest API: the others are dealt with, and these wait until it has room for them.
    async fn later(
        &mut self,
        batch: Batch,
        over: Vec<Rejected>,
        rejected: Vec<Rejected>,
    ) -> Result<Option<(Batch, Batch)>, Failure> {
        let places: Vec<_> = over.iter().map(|over| over.index).collect();
        let done: Vec<_> = (0..batch.numbers.len()).filter(|place| !places.contains(place)).collect();
        let at = |index| done.iter().position(|place| *place == index).unwrap_or_default();
        let rejected: Vec<_> = rejected.into_iter().map(|one| Rejected { index: at(one.index), ..one }).collect();
        let dealt_with = batch.only(&done);
        if !done.is_empty() {
            let bytes = dealt_with.lines.len();
            self.report.taken(&dealt_with.numbers, bytes, &rejected).map_err(Failure::no)?;
        }
        let wait = over.iter().filter_map(|over| over.retry_after).max().unwrap_or_default();
        self.pause(Duration::from_secs(wait.max(1)), &over[0].error).await?;
        Ok(Some((batch.only(&places), Batch::default())))
    }

    async fn post(&self, lines: Bytes) -> Result<Answer, Failure> {
        let too_long = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            answer = self.client.post(lines) => Ok(answer),
            () = too_long => Err(Failure::no("stopped")),
        }
    }

    /// Before another attempt: waits for between the whole of the time and half as much again. Fails with the reason if
    /// nothing was acknowledged for too long.
    async fn pause(&mut self, time: Duration, reason: &str) -> Result<(), Failure> {
        self.report.again();
        let time = time.min(self.report.patience());
        if time.is_zero() {
            let given_up = self.report.give_up();
            return Err(self.failed(&format!("nothing was acknowledged for {given_up:?}; {reason}")));
        }
        let time = time.mul_f64(1.0 + self.jitter.below(1_000) as f64 / 2_000.0);
        match self.stop.run_until_cancelled(tokio::time::sleep(time)).await {
            Some(()) => Ok(()),
            None => Err(Failure::no("stopped")),
        }
    }

    fn failed(&self, reason: &str) -> Failure {
        Failure::no(format!("{}: {reason}", self.client.uri()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_with_their_numbers() {
        let batch = Batch { lines: b"a\nbb\nccc\n".to_vec(), numbers: vec![4, 7, 9] };
        let chosen = batch.only(&[0, 2]);
        assert_eq!((chosen.lines.as_slice(), chosen.numbers.as_slice()), (b"a\nccc\n".as_slice(), [4, 9].as_slice()));
    }

    #[test]
    fn halves_are_cut_between_lines() {
        let batch = Batch { lines: b"a\nbb\nccc\n".to_vec(), numbers: vec![4, 7, 9] };
        let (first, second) = batch.halves();
        assert_eq!((first.lines.as_slice(), first.numbers.as_slice()), (b"a\n".as_slice(), [4].as_slice()));
        assert_eq!((second.lines.as_slice(), second.numbers.as_slice()), (b"bb\nccc\n".as_slice(), [7, 9].as_slice()));
    }
}
