//! Topics that are deleted while tally runs: detected, reported, and not ready until they are back.

use super::watch::Watch;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_http::Check;
use tally_streams::log::{Log, TopicSpec};

/// Between two checks.
const WATCH: Duration = Duration::from_secs(2);

/// Topics that are missing, or have another number of partitions, with what happened to each.
type Altered = BTreeMap<String, String>;

/// Checks regularly that all topics exist.
pub struct TopicWatch {
    altered: Arc<Mutex<Altered>>,
    _watch: Watch,
}

impl TopicWatch {
    /// Watches these topics, which exist.
    pub fn start(log: Arc<dyn Log>, topics: Vec<TopicSpec>) -> std::io::Result<Self> {
        let altered = Arc::new(Mutex::new(Altered::new()));
        let told = altered.clone();
        let mut before = Altered::new();
        let watch = Watch::start("topic-watch", WATCH, move || {
            // A log that does not answer is reported by another check.
            let Ok(found) = log.altered_topics(&topics) else { return };
            let now: Altered = found.into_iter().map(|(topic, found)| (topic, what(found))).collect();
            // A broker that has just restarted may not know a topic for a moment.
            let twice = now.iter().filter(|(topic, _)| before.contains_key(*topic));
            let twice = twice.map(|(topic, what)| (topic.clone(), what.clone())).collect();
            before = now;
            note(&mut told.lock().unwrap_or_else(PoisonError::into_inner), twice);
        })?;
        Ok(Self { altered, _watch: watch })
    }

    /// Whether all of them exist.
    pub fn check(&self) -> Check {
        let altered = self.altered.clone();
        Check::at_once("the log", move || trouble(&altered.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn trouble(altered: &Altered) -> Result<(), String> {
    let named: Vec<_> = altered.iter().map(|(topic, what)| format!("topic `{topic}` {what}")).collect();
    if named.is_empty() { Ok(()) } else { Err(named.join(", ")) }
}

fn what(found: Option<u32>) -> String {
    match found {
        None => "does not exist any more".to_owned(),
        Some(partitions) => format!("was recreated with {partitions} partitions"),
    }
}

/// Stores the state of the topics, and reports changes.
fn note(known: &mut Altered, now: Altered) {
    for (topic, what) in now.iter().filter(|(topic, what)| known.get(*topic) != Some(*what)) {
        tracing::error!(topic, what, "a topic was deleted (docs/operations.md, \"Deleted topics\")");
    }
    for topic in known.keys().filter(|topic| !now.contains_key(*topic)) {
        tracing::warn!(topic, "a topic is there again; what was in it is not");
    }
    *known = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_gone_is_named_until_it_is_back() {
        let mut known = Altered::new();
        let mut becomes = |found: &[(&str, Option<u32>)]| {
            note(&mut known, found.iter().map(|(topic, found)| ((*topic).to_owned(), what(*found))).collect());
            trouble(&known)
        };
        assert_eq!(becomes(&[("counters", None)]), Err("topic `counters` does not exist any more".to_owned()));
        let both = "topic `counters` was recreated with 1 partitions, topic `verdicts` does not exist any more";
        assert_eq!(becomes(&[("counters", Some(1)), ("verdicts", None)]), Err(both.to_owned()));
        assert_eq!(becomes(&[]), Ok(()));
    }
}
