//! What a topology means for the state and the topics of a log: a line for each store, losses last.

use crate::commands::Failure;
use crate::process::planning::PlanState;
use indicatif::{DecimalBytes, HumanCount};
use std::fmt;
use tally_processors::Actions;
use tally_streams::log::LogError;
use tally_streams::runtime::Control;
use tally_streams::task::WIRE_VERSIONS;
use tally_streams::topology::{Difference, Fate, Fingerprint, PlannedStore, Topology, count};

/// The order of the lines.
const MARKS: [char; 4] = ['=', '~', '+', '!'];

/// The lines, and what `tally run` would do.
pub struct StatePlan {
    lines: Vec<Line>,
    /// Why `tally run` would refuse the topology.
    refusals: Vec<String>,
    /// Whether `tally run` demands --accept-added.
    needs_consent: bool,
}

struct Line {
    mark: char,
    name: String,
    text: String,
}

impl StatePlan {
    /// Compares a topology with the control record, if there is one, and lists what the log refuses of its topics.
    pub fn new(topology: &Topology<Actions>, control: Option<&Control>, topics: &[LogError]) -> Self {
        let refused_version = control.and_then(|control| control.check_wire_version(WIRE_VERSIONS).err());
        let refusals = refused_version.map(|error| error.to_string()).into_iter().collect();
        let mut plan = Self { lines: stateless(topology).into_iter().collect(), refusals, needs_consent: false };
        let (fingerprint, running) = (topology.fingerprint(), control.map(|control| &control.fingerprint));
        let lost = plan.add_stores(fingerprint.plan(running.unwrap_or(&Fingerprint::default())));
        plan.add_topics(topics);
        plan.needs_consent = running.is_some() && plan.lines.iter().any(|line| line.mark == '+');
        if let Some(running) = running {
            plan.add_other(fingerprint.compare(running), lost);
        }
        plan.lines.sort_by_key(|line| MARKS.iter().position(|mark| *mark == line.mark));
        plan
    }

    /// Adds the stores, and returns how many would be lost.
    fn add_stores(&mut self, stores: Vec<PlannedStore>) -> usize {
        let lost = stores.iter().filter(|store| matches!(store.fate, Fate::Lost)).count();
        self.lines.extend(stores.into_iter().map(Line::of_store));
        if lost > 0 {
            let stores = count(lost, "store");
            self.refusals.push(format!("{stores} would be lost: revert the change, or start over with an empty log"));
        }
        lost
    }

    fn add_topics(&mut self, topics: &[LogError]) {
        self.lines.extend(topics.iter().map(Line::of_topic));
        if !topics.is_empty() {
            let topics = count(topics.len(), "topic");
            self.refusals.push(format!("{topics} cannot be changed: revert the change, or use another topic"));
        }
    }

    /// Adds a difference that no store shows, such as a subtopology without any.
    fn add_other(&mut self, difference: Difference, lost: usize) {
        match difference {
            Difference::Changed(differences) if lost == 0 => self.refusals.extend(differences),
            Difference::Added(differences) if !self.needs_consent => {
                self.needs_consent = true;
                let added = |text| Line { mark: '+', name: "topology".to_owned(), text };
                self.lines.extend(differences.into_iter().map(added));
            }
            Difference::Same | Difference::Changed(_) | Difference::Added(_) => {}
        }
    }

    /// Fails with the reasons where `tally run` would refuse the topology.
    pub fn outcome(&self) -> Result<(), Failure> {
        match self.refusals.is_empty() {
            true => Ok(()),
            false => Err(Failure::no(self.refusals.join("\n"))),
        }
    }
}

impl fmt::Display for StatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or_default();
        for Line { mark, name, text } in &self.lines {
            writeln!(f, "{mark} {name:width$}  {text}")?;
        }
        match (self.refusals.is_empty(), self.needs_consent) {
            (false, _) => Ok(()),
            (true, true) => writeln!(f, "nothing is lost: start `tally run` once with --accept-added"),
            (true, false) => writeln!(f, "nothing is lost"),
        }
    }
}

/// What the state takes in the log: a line.
pub fn sizes(states: &[PlanState]) -> String {
    let of_one = |PlanState { subtopology, records, bytes }: &PlanState| {
        let records = HumanCount(*records);
        match bytes {
            Some(bytes) => format!("{subtopology} {} in up to {records} records", DecimalBytes(*bytes)),
            None => format!("{subtopology} up to {records} records"),
        }
    };
    let all: Vec<_> = states.iter().map(of_one).collect();
    if all.is_empty() { String::new() } else { format!("state in the log: {}\n", all.join(", ")) }
}

/// The nodes without state: a change of one of them does not show in the fingerprint.
fn stateless(topology: &Topology<Actions>) -> Option<Line> {
    let mut names = Vec::new();
    for subtopology in &topology.subtopologies {
        for (index, node) in subtopology.nodes.iter().enumerate() {
            if topology.build_site(subtopology, index, 0).stores.is_empty() {
                names.push(node.name.to_string());
            }
        }
    }
    let text = format!("changes apply from now on: {}", names.join(", "));
    (!names.is_empty()).then(|| Line { mark: '~', name: "nodes without state".to_owned(), text })
}

impl Line {
    fn of_topic(error: &LogError) -> Self {
        let (name, text) = match error {
            LogError::Mismatch { topic, detail } => (format!("topic {topic}"), detail.clone()),
            other => ("log".to_owned(), other.to_string()),
        };
        Self { mark: '!', name, text }
    }

    fn of_store(planned: PlannedStore) -> Self {
        let PlannedStore { subtopology, store, fate, reasons } = planned;
        let (mark, text) = match fate {
            Fate::Kept => ('=', "kept".to_owned()),
            Fate::Added if reasons.is_empty() => ('+', "starts empty".to_owned()),
            Fate::Added => ('+', format!("kept, but: {}", reasons.join("; "))),
            Fate::Lost => ('!', format!("lost: {}", reasons.join("; "))),
        };
        Self { mark, name: format!("{subtopology}/{store}"), text }
    }
}
