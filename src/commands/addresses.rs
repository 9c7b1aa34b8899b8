//! The addresses that every subcommand takes; an address's scheme picks the engine.

use super::Failure;
use clap::Args;
use std::path::PathBuf;
use tally_processors::{Actions, REGISTRY, SINK_TYPES};
use tally_streams::topology::Topology;

/// The topology alone.
#[derive(Args, Clone, Debug)]
pub struct TopologyFile {
    /// The pipeline's file
    #[arg(long, env = "TALLY_TOPOLOGY", value_name = "FILE", default_value = "topology.yaml")]
    pub topology: PathBuf,
}

/// Everything that a running process needs.
#[derive(Args, Clone, Debug)]
pub struct Addresses {
    // No doc comment: clap would print it as the help of every subcommand.
    #[allow(missing_docs)]
    #[command(flatten)]
    pub file: TopologyFile,
    /// The log: embedded:DIR
    #[arg(long, env = "TALLY_LOG", value_name = "URL", default_value = "embedded:./data/log")]
    pub log: String,
    /// The database: sqlite:FILE
    #[arg(long, env = "TALLY_DATABASE", value_name = "URL", default_value = "sqlite:./data/tally.db")]
    pub database: String,
    /// The cache: memory:
    #[arg(long, env = "TALLY_CACHE", value_name = "URL", default_value = "memory:")]
    pub cache: String,
    /// Where checkpoints are kept
    #[arg(long, env = "TALLY_STATE", value_name = "DIR", default_value = "./data/state")]
    pub state: PathBuf,
    /// Where HTTP is served
    #[arg(long, env = "TALLY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

impl TopologyFile {
    /// Reads and checks the file.
    pub fn load(&self) -> Result<Topology<Actions>, Failure> {
        let name = self.topology.display().to_string();
        let text = std::fs::read_to_string(&self.topology).map_err(|e| {
            Failure::usage(format!("{name}: {e}: name the pipeline's file with --topology or TALLY_TOPOLOGY"))
        })?;
        Topology::load(&name, &text, REGISTRY, SINK_TYPES).map_err(Failure::usage)
    }
}

impl Addresses {
    /// The directory of the embedded log.
    pub fn log_dir(&self) -> Result<PathBuf, Failure> {
        address(&self.log, "embedded:", "--log", "embedded:DIR")
    }

    /// The file of the SQLite database.
    pub fn database_file(&self) -> Result<PathBuf, Failure> {
        address(&self.database, "sqlite:", "--database", "sqlite:FILE")
    }

    /// Checks the cache's address: there is one engine yet.
    pub fn check_cache(&self) -> Result<(), Failure> {
        match self.cache.as_str() {
            "memory:" => Ok(()),
            other => {
                let shown = other.split_once("//").map_or(other, |(scheme, _)| scheme.trim_end_matches(':'));
                Err(Failure::usage(format!("--cache {shown}: not known; this version takes `memory:`")))
            }
        }
    }
}

fn address(value: &str, scheme: &str, flag: &str, form: &str) -> Result<PathBuf, Failure> {
    match value.strip_prefix(scheme) {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        _ => {
            // What follows the scheme may hold a password.
            let shown = value.split_once("//").map_or(value, |(scheme, _)| scheme.trim_end_matches(':'));
            Err(Failure::usage(format!("{flag} {shown}: not known; this version takes `{form}`")))
        }
    }
}
