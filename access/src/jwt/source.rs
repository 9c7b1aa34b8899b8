//! The source of the keys of tokens: a file that is reloaded when it changes, or an address that is fetched at
//! intervals.

use super::fetch::{FetchError, JwksUrl};
use super::jwks::KeySet;
use crate::reload::Reloading;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The shortest interval between fetches because of unknown `kid`s: made-up ones must not flood the address.
const KID_PAUSE: Duration = Duration::from_secs(10);
/// The pause after a failure; doubled with each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The keys of tokens, as they are now.
pub struct TokenKeys(Source);

enum Source {
    File(Reloading<KeySet>),
    Url(Box<Published>),
}

struct Published {
    url: JwksUrl,
    current: RwLock<Arc<KeySet>>,
    /// Its holder sends the request; the others wait for the outcome.
    state: Mutex<State>,
}

struct State {
    schedule: Schedule,
    /// The document that the keys are from.
    text: String,
}

/// The outcome of a refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It was not fetched, or has not changed.
    Same,
    /// There are other keys now.
    New,
    /// The refresh failed, and the former keys stay in use.
    Failed(String),
}

impl TokenKeys {
    /// Reads a file. Blocks.
    pub fn file(path: &Path) -> Result<Self, String> {
        Reloading::open(path, KeySet::parse).map(|file| Self(Source::File(file)))
    }

    /// Fetches an address once. If it does not answer now, it is retried later, and until then no token is accepted; a
    /// permanent failure is an error.
    pub async fn published(url: JwksUrl, refresh: Duration) -> Result<Self, String> {
        let now = Instant::now();
        let schedule = Schedule { refresh, due: now, failures: 0, for_kid: None };
        let state = Mutex::new(State { schedule, text: String::new() });
        let published = Published { url, current: RwLock::new(Arc::new(KeySet::none())), state };
        match published.ask(&mut *published.state.lock().await).await {
            Err(FetchError { text, heals: true }) => {
                tracing::warn!("JWKS: {text}: no JWT is accepted until the JWKS can be fetched");
            }
            Err(FetchError { text, heals: false }) => return Err(text),
            Ok(_) => {}
        }
        Ok(Self(Source::Url(Box::new(published))))
    }

    /// The keys.
    pub(crate) fn get(&self) -> Arc<KeySet> {
        match &self.0 {
            Source::File(file) => file.get(),
            Source::Url(published) => published.current.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Reloads the source if it is time, or in any case if `asked`.
    pub async fn refresh(self: &Arc<Self>, asked: bool) -> Fetched {
        match &self.0 {
            Source::File(_) => {
                let keys = self.clone();
                // Files may lie on slow disks.
                let read = tokio::task::spawn_blocking(move || match &keys.0 {
                    Source::File(file) => file.reload(asked),
                    Source::Url(_) => Ok(false),
                });
                match read.await {
                    Ok(Ok(true)) => Fetched::New,
                    Ok(Ok(false)) => Fetched::Same,
                    Ok(Err(why)) => Fetched::Failed(why),
                    Err(error) => Fetched::Failed(error.to_string()),
                }
            }
            Source::Url(published) => {
                let mut state = published.state.lock().await;
                match asked || state.schedule.is_due(Instant::now()) {
                    true => published.ask(&mut state).await.unwrap_or_else(|error| Fetched::Failed(error.text)),
                    false => Fetched::Same,
                }
            }
        }
    }

    /// For a `kid` that `known` does not have: fetches the address, at most once in a while for all such requests.
    /// Returns whether there are other keys now.
    pub(crate) async fn refresh_for_kid(&self, known: &Arc<KeySet>) -> bool {
        let Source::Url(published) = &self.0 else { return false };
        let mut state = published.state.lock().await;
        let others = || !Arc::ptr_eq(&self.get(), known);
        // The previous holder of the lock may have fetched the key.
        if !others()
            && state.schedule.may_ask_for_kid(Instant::now())
            && let Err(error) = published.ask(&mut state).await
        {
            tracing::warn!("JWKS: {}: the previous keys stay in use", error.text);
        }
        others()
    }
}

impl Published {
    async fn ask(&self, state: &mut State) -> Result<Fetched, FetchError> {
        let outcome = self.take(state).await;
        state.schedule.asked(Instant::now(), outcome.is_ok());
        outcome
    }

    async fn take(&self, state: &mut State) -> Result<Fetched, FetchError> {
        let text = self.url.fetch().await?;
        // Tokens that were verified stay so.
        if text == state.text {
            return Ok(Fetched::Same);
        }
        let keys = KeySet::parse_published(&text).map_err(FetchError::lasting)?;
        state.text = text;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(Fetched::New)
    }
}

/// When the address is fetched.
struct Schedule {
    refresh: Duration,
    due: Instant,
    failures: u32,
    /// When it was last fetched for a `kid`.
    for_kid: Option<Instant>,
}

impl Schedule {
    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Not while it waits after a failure: then it is fetched soon anyway.
    fn may_ask_for_kid(&mut self, now: Instant) -> bool {
        let is_long_ago = self.for_kid.is_none_or(|last| now.saturating_duration_since(last) >= KID_PAUSE);
        let may = is_long_ago && (self.failures == 0 || self.is_due(now));
        if may {
            self.for_kid = Some(now);
        }
        may
    }

    fn asked(&mut self, now: Instant, well: bool) {
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        let pause = match self.failures {
            0 => self.refresh,
            n => RETRY_MIN.saturating_mul(1 << (n - 1).min(20)).min(RETRY_MAX).min(self.refresh.max(RETRY_MIN)),
        };
        self.due = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let refresh = Duration::from_secs(300);
        let mut schedule = Schedule { refresh, due: begin, failures: 0, for_kid: None };
        assert!(schedule.is_due(begin));
        schedule.asked(at(0), true);
        assert!(!schedule.is_due(at(299)) && schedule.is_due(at(300)));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.asked(at(300), false);
            pauses.push((schedule.due - at(300)).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!schedule.may_ask_for_kid(at(301)), "it is asked soon anyway");
        schedule.asked(at(400), true);
        assert_eq!(schedule.due, at(700));
    }

    #[test]
    fn unknown_kids_are_fetched_at_most_once_per_pause() {
        let begin = Instant::now();
        let refresh = Duration::from_secs(300);
        let mut schedule = Schedule { refresh, due: begin + refresh, failures: 0, for_kid: None };
        let asked: Vec<u64> =
            (0..40).filter(|seconds| schedule.may_ask_for_kid(begin + Duration::from_secs(*seconds))).collect();
        assert_eq!(asked, [0, 10, 20, 30]);
    }
}

#[cfg(test)]
#[path = "published_tests.rs"]
mod published;
