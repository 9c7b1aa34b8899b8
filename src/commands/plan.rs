//! `tally plan`: what does a changed topology mean for the state that there is?

use super::Failure;
use super::addresses::TopologyFile;
use super::log::opened;
use clap::Args;
use std::path::PathBuf;
use tally_streams::log::embedded::OfflineLog;
use tally_streams::runtime::Control;
use tally_streams::topology::{Fate, Fingerprint, PlannedStore};

/// Arguments of `tally plan`.
#[derive(Args)]
#[command(after_help = "\
=  the store keeps its entries
~  the node has no state: a change of it applies from now on
+  the store, or a part of it, starts empty: `tally run` demands --accept-added
!  the entries of the store would be lost: `tally run` refuses the topology, and the exit code is 1

A process may have the log open meanwhile.")]
pub struct PlanArgs {
    #[command(flatten)]
    file: TopologyFile,
    /// Directory of the log, as in --log embedded:DIR
    #[arg(long, value_name = "DIR", default_value = "./data/log")]
    against: PathBuf,
}

/// Prints one line for each store and each node without one; what would be lost comes last.
pub fn run(args: PlanArgs) -> Result<(), Failure> {
    let topology = args.file.load()?;
    let application = &topology.settings.application;
    let log = opened(OfflineLog::open_shared(&args.against))?;
    let (topic, key) = Control::place(application);
    let running = match log.newest(&topic, key).map_err(Failure::no)? {
        Some(value) => Control::decode(&value).map_err(|reason| Failure::no(format!("{topic}: {reason}")))?.fingerprint,
        None => {
            println!("{}: no state of application `{application}`", args.against.display());
            Fingerprint::default()
        }
    };
    let mut lines = Vec::new();
    for subtopology in &topology.subtopologies {
        for (index, node) in subtopology.nodes.iter().enumerate() {
            if topology.build_site(subtopology, index, 0).stores.is_empty() {
                let name = format!("{}/{}", subtopology.name, node.name);
                lines.push(Line {
                    mark: '~',
                    name,
                    told: format!("{}, no state: a change applies from now on", node.type_name),
                });
            }
        }
    }
    lines.extend(topology.fingerprint().plan(&running).into_iter().map(Line::of_store));
    lines.sort_by_key(|line| MARKS.iter().position(|mark| *mark == line.mark));
    let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or_default();
    for Line { mark, name, told } in &lines {
        println!("{mark} {name:width$}  {told}");
    }
    match lines.iter().filter(|line| line.mark == '!').count() {
        0 => Ok(()),
        1 => Err(Failure::no("1 store would be lost: revert the change, or start over with an empty log")),
        lost => {
            Err(Failure::no(format!("{lost} stores would be lost: revert the change, or start over with an empty log")))
        }
    }
}

/// The order of the lines.
const MARKS: [char; 4] = ['=', '~', '+', '!'];

struct Line {
    mark: char,
    name: String,
    told: String,
}

impl Line {
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
