//! What a topology decides about each event: counted, refused with a verdict, or rejected as a dead letter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tally_model::{DeadLetter, Verdict, VerdictKind};

/// An event: its partition in the root topic of a simulation, and its offset there.
pub type Place = (u32, u64);

/// What was decided about an event. The default is that it was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// The verdict that holds, with the rule behind it if there is one.
    verdict: Option<String>,
    /// The nodes that rejected it, each with its reason.
    rejections: BTreeSet<String>,
}

/// Decisions that are not the default, by event.
#[derive(Default)]
pub struct Decisions(BTreeMap<Place, Decision>);

impl Decisions {
    /// Notes a verdict. The last one of an event is what holds.
    pub fn add_verdict(&mut self, verdict: &Verdict) {
        let decision = self.0.entry((verdict.partition, verdict.offset)).or_default();
        match verdict.verdict {
            // The dead letter has the reason.
            VerdictKind::Dead => {}
            VerdictKind::Released => decision.verdict = None,
            // The reason is the name of the rule; those of others have numbers of their own for each event.
            VerdictKind::Limited | VerdictKind::Held => {
                decision.verdict = Some(format!("{} {}", verdict.verdict.as_str(), verdict.reason));
            }
            VerdictKind::Duplicate | VerdictKind::Late => decision.verdict = Some(verdict.verdict.as_str().to_owned()),
        }
    }

    /// Notes a dead letter of an event; those of other topics have no event.
    pub fn add_dead_letter(&mut self, letter: DeadLetter, root: &str) {
        let DeadLetter { topic, partition, offset, node, reason, .. } = letter;
        let place = partition.and_then(|partition| u32::try_from(partition).ok()).zip(offset);
        let Some((partition, offset)) = place.filter(|_| topic.as_deref() == Some(root)) else { return };
        let rejection = format!("dead letter of `{}`: {}", node.unwrap_or_default(), reason.unwrap_or_default());
        let place = (partition, u64::try_from(offset).unwrap_or_default());
        self.0.entry(place).or_default().rejections.insert(rejection);
    }

    /// What was decided about an event.
    pub fn of(&self, place: Place) -> Decision {
        self.0.get(&place).cloned().unwrap_or_default()
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.verdict.iter().chain(&self.rejections).map(String::as_str).collect();
        f.write_str(if parts.is_empty() { "counted".to_owned() } else { parts.join(", ") }.as_str())
    }
}
