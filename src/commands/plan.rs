//! `tally plan`: what does a changed topology mean for the state that there is?

use super::Failure;
use super::addresses::TopologyFile;
use super::log::opened;
use clap::Args;
use std::path::PathBuf;
use tally_processors::Actions;
use tally_streams::log::LogError;
use tally_streams::log::embedded::OfflineLog;
use tally_streams::runtime::Control;
use tally_streams::task::WIRE_VERSIONS;
use tally_streams::topology::{Difference, Fate, Fingerprint, PlannedStore, Topology, count};

/// Arguments of `tally plan`.
#[derive(Args)]
#[command(after_help = "\
=  the store keeps its entries
~  nodes without state: a change of them applies from now on, and the log does not show whether there is one
+  the store, or a part of it, starts empty: `tally run` demands --accept-added
!  the entries of the store would be lost, or the topic exists with other settings: `tally run` refuses the topology, and the
   exit code is 1

A process may have the log open meanwhile.")]
pub struct PlanArgs {
    #[command(flatten)]
    file: TopologyFile,
    /// Directory of the log, as in --log embedded:DIR
    #[arg(long, value_name = "DIR", default_value = "./data/log")]
    against: PathBuf,
}

/// Prints one line for each store and one for all nodes without any; what `tally run` would refuse comes last.
pub fn run(args: PlanArgs) -> Result<(), Failure> {
    let topology = args.file.load()?;
    let application = &topology.settings.application;
    let log = opened(OfflineLog::open_shared(&args.against))?;
    let (topic, key) = Control::place(application);
    let control = log.newest(&topic, key).map_err(Failure::no)?;
    let control = control.map(|value| Control::decode(&value)).transpose();
    let control = control.map_err(|reason| Failure::no(format!("{topic}: {reason}")))?;
    if control.is_none() {
        println!("{}: no state of application `{application}`", args.against.display());
    }
    let refused_version = control.as_ref().and_then(|control| control.check_wire_version(WIRE_VERSIONS).err());
    let running = control.map(|control| control.fingerprint);
    let fingerprint = topology.fingerprint();
    let mut lines: Vec<_> = stateless(&topology).into_iter().collect();
    let topics = log.refusals(&topology.topic_specs());
    let mut refusals: Vec<_> = refused_version.map(|error| error.to_string()).into_iter().collect();
    lines.extend(topics.iter().map(Line::of_topic));
    let stores = fingerprint.plan(running.as_ref().unwrap_or(&Fingerprint::default()));
    lines.extend(stores.into_iter().map(Line::of_store));
    let lost = lines.iter().filter(|line| line.mark == '!').count() - topics.len();
    if lost > 0 {
        let stores = count(lost, "store");
        refusals.push(format!("{stores} would be lost: revert the change, or start over with an empty log"));
    }
    if !topics.is_empty() {
        let topics = count(topics.len(), "topic");
        refusals.push(format!("{topics} cannot be changed: revert the change, or use another topic"));
    }
    let mut needs_consent = lines.iter().any(|line| line.mark == '+');
    // A difference that no store shows, such as a subtopology without any.
    match running.map(|running| fingerprint.compare(&running)) {
        Some(Difference::Changed(differences)) if lost == 0 => refusals.extend(differences),
        Some(Difference::Added(differences)) if !needs_consent => {
            needs_consent = true;
            lines.extend(differences.into_iter().map(|told| Line { mark: '+', name: "topology".to_owned(), told }));
        }
        Some(_) => {}
        None => needs_consent = false,
    }
    lines.sort_by_key(|line| MARKS.iter().position(|mark| *mark == line.mark));
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or_default();
    for Line { mark, name, told } in &lines {
        println!("{mark} {name:width$}  {told}");
    }
    match (refusals.is_empty(), needs_consent) {
        (false, _) => return Err(Failure::no(refusals.join("\n"))),
        (true, true) => println!("nothing is lost: start `tally run` once with --accept-added"),
        (true, false) => println!("nothing is lost"),
    }
    Ok(())
}

/// The nodes without state: a change of one of them leaves no trace in the log.
fn stateless(topology: &Topology<Actions>) -> Option<Line> {
    let mut names = Vec::new();
    for subtopology in &topology.subtopologies {
        for (index, node) in subtopology.nodes.iter().enumerate() {
            if topology.build_site(subtopology, index, 0).stores.is_empty() {
                names.push(node.name.to_string());
            }
        }
    }
    let told = format!("changes apply from now on: {}", names.join(", "));
    (!names.is_empty()).then(|| Line { mark: '~', name: "nodes without state".to_owned(), told })
}

/// The order of the lines.
const MARKS: [char; 4] = ['=', '~', '+', '!'];

struct Line {
    mark: char,
    name: String,
    told: String,
}

impl Line {
    fn of_topic(error: &LogError) -> Self {
        let (name, told) = match error {
            LogError::Mismatch { topic, detail } => (format!("topic {topic}"), detail.clone()),
            other => ("log".to_owned(), other.to_string()),
        };
        Self { mark: '!', name, told }
    }

    fn of_store(planned: PlannedStore) -> Self {
        let PlannedStore { subtopology, store, fate, reasons } = planned;
        let (mark, told) = match fate {
            Fate::Kept => ('=', "kept".to_owned()),
            Fate::Added if reasons.is_empty() => ('+', "starts empty".to_owned()),
            Fate::Added => ('+', format!("kept, but: {}", reasons.join("; "))),
            Fate::Lost => ('!', format!("lost: {}", reasons.join("; "))),
        };
        Self { mark, name: format!("{subtopology}/{store}"), told }
    }
}
