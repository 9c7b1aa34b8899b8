//! `tally plan`: what does a changed topology mean for the state that there is?

mod against;
mod process;
mod state;

use super::Failure;
use super::addresses::TopologyFile;
use crate::effect::{Effect, compare, replay};
use against::{Against, AgainstArgs};
use clap::Args;
use state::StatePlan;
use std::path::PathBuf;
use std::sync::Arc;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::LoggedRecord;
use tally_streams::topology::{Diagnostics, Topology};

/// Arguments of `tally plan`.
#[derive(Args)]
#[command(after_help = "\
=  the store keeps its entries
~  nodes without state: a change of them applies from now on, and the log does not show whether there is one
+  the store, or a part of it, starts empty: `tally run` demands --accept-added
!  the entries of the store would be lost, or the topic exists with other settings: `tally run` refuses the topology, and the
   exit code is 1

Before these lines: what the topology that runs and the changed one make of the last events, both without earlier state.
`→` stands between what was before and what would be.
Then how much state each subtopology has in the log: all of it is read where a checkpoint is missing.

A process may have the log open meanwhile. Over http://, it returns up to 10,000 events, and at most 8 MiB of them.")]
pub struct PlanArgs {
    #[command(flatten)]
    file: TopologyFile,
    #[command(flatten)]
    against: AgainstArgs,
    /// Process so many of the last events with both topologies, in memory; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    events: u32,
    /// The file of the topology that runs, if the log does not have it: an older release wrote it
    #[arg(long, value_name = "FILE")]
    running: Option<PathBuf>,
}

/// Prints the effect on the last events, then one line for each store and one for all nodes without any; what `tally run`
/// would refuse comes last.
pub fn run(args: PlanArgs) -> Result<(), Failure> {
    let topology = args.file.load()?;
    let application = &topology.settings.application;
    let topics = topology.topic_specs();
    let log = Against::open(&args.against, application, &topics, args.events)?;
    let control = log.control(application)?;
    match &control {
        None => println!("{}: no state of application `{application}`", args.against.log),
        Some(_) if args.events == 0 => {}
        Some(control) => match effect(&args, &log, application, control.secret)? {
            Seen::Nothing => {}
            Seen::Effect(effect) => println!("{effect}"),
            Seen::Unknown(reason) => println!("the effect on events is not known: {reason}"),
        },
    }
    let state = StatePlan::new(&topology, control.as_ref(), &log.refusals(&topics)?);
    if let Some(control) = &control {
        print!("{}", state::sizes(&log.state(application, control)?));
    }
    print!("{state}");
    state.outcome()
}

/// What a replay of the last events shows.
enum Seen {
    /// Both topologies are the same, or the log has no events.
    Nothing,
    Effect(Effect),
    /// There is nothing to compare with, for this reason.
    Unknown(String),
}

/// Both topologies process the last events.
fn effect(args: &PlanArgs, log: &Against, application: &str, secret: [u8; 32]) -> Result<Seen, Failure> {
    let running = match &args.running {
        Some(file) => Some(TopologyFile { topology: Some(file.clone()) }.read()?.1.into_owned()),
        None => log.topology(application)?,
    };
    let Some(running) = running else {
        return Ok(Seen::Unknown(
            "the log does not have the topology that runs: name its file with --running".to_owned(),
        ));
    };
    let (name, text) = args.file.read()?;
    if text == running {
        return Ok(Seen::Nothing);
    }
    let changed = loaded(&name, &text).map_err(Failure::usage)?;
    let running = match loaded("the topology that runs", &running) {
        Ok(running) => running,
        Err(mistakes) => return Ok(Seen::Unknown(format!("this release refuses\n{mistakes}"))),
    };
    let records = log.newest_records(&running.root, args.events as usize)?;
    if records.is_empty() {
        return Ok(Seen::Nothing);
    }
    Ok(effect_on(&records, &running, &changed, secret).map_or_else(Seen::Unknown, Seen::Effect))
}

/// A topology whose verdicts and dead letters show, even where its file has no topics for them.
fn loaded(name: &str, text: &str) -> Result<Arc<Topology<Actions>>, Diagnostics> {
    Topology::load_with_drops(name, text, REGISTRY, SINK_TYPES).map(Arc::new)
}

/// An error is the reason why one of the topologies would stop at these records.
fn effect_on(
    records: &[LoggedRecord],
    running: &Arc<Topology<Actions>>,
    changed: &Arc<Topology<Actions>>,
    secret: [u8; 32],
) -> Result<Effect, String> {
    let replayed =
        |name: &str, topology| replay(topology, records, secret).map_err(|error| format!("{name} would stop: {error}"));
    Ok(compare(records, &replayed("the topology that runs", running)?, &replayed("the changed topology", changed)?))
}
