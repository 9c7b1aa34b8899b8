//! Actors who collect and uncollect through the API while harm is done.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tally::workload::Random;
use tally_testkit::Client;

const LANES: u64 = 4;
const SUBJECTS: u64 = 40;
/// Few enough that the same actor comes over several connections.
const ACTORS: u64 = 150;
/// Between the requests of a lane: they are few beside the events.
const PAUSE: Duration = Duration::from_millis(40);

/// Actor and subject.
type Pairs = HashSet<(String, String)>;

/// They send requests until they are stopped.
pub struct Collectors {
    over: Arc<AtomicBool>,
    /// The (actor, subject) pairs whose collect was confirmed.
    pairs: Arc<Mutex<Pairs>>,
    lanes: Vec<(Arc<Mutex<()>>, JoinHandle<u64>)>,
}

impl Collectors {
    /// At an API, `host:port`.
    pub fn start(api: &str, seed: u64) -> Self {
        let (over, pairs) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let lane = |lane| {
            let (turn, over, client) = (Arc::new(Mutex::new(())), over.clone(), Client(api.to_owned()));
            let pairs = pairs.clone();
            let mut random = Random::new(seed ^ (lane << 32));
            let asks = {
                let turn = turn.clone();
                move || {
                    let mut answers = 0;
                    while !over.load(Ordering::Relaxed) {
                        let asking = turn.lock().unwrap_or_else(PoisonError::into_inner);
                        answers += u64::from(ask(&client, &mut random, &pairs));
                        drop(asking);
                        thread::sleep(PAUSE);
                    }
                    answers
                }
            };
            (turn, thread::spawn(asks))
        };
        let lanes = (0..LANES).map(lane).collect();
        Self { over, pairs, lanes }
    }

    /// How many different pairs of actor and subject were collected so far; each has a row from then on.
    pub fn pairs(&self) -> usize {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until no request is under way; none is sent for as long as this is held.
    pub fn hold(&self) -> Vec<MutexGuard<'_, ()>> {
        self.lanes.iter().map(|(turn, _)| turn.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// How many requests were answered.
    pub fn finish(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.lanes.into_iter().map(|(_, lane)| lane.join().expect("a collector ends well")).sum()
    }
}

/// Whether it was answered.
fn ask(client: &Client, random: &mut Random, pairs: &Mutex<Pairs>) -> bool {
    let subject = format!("article:{}", 1 + random.below(SUBJECTS));
    let actor = format!("u{}", random.below(ACTORS));
    let active = random.chance(6_000);
    let is_answered = client.collect(&subject, &actor, active).is_some();
    if is_answered && active {
        pairs.lock().unwrap_or_else(PoisonError::into_inner).insert((actor, subject));
    }
    is_answered
}
