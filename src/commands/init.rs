//! `tally init`: a topology of one's own to begin with.

use super::Failure;
use super::addresses::{BUILT_IN_TOPOLOGY, TOPOLOGY_FILE};
use clap::Args;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Arguments of `tally init`.
#[derive(Args)]
pub struct InitArgs {
    /// File to write; an existing file is never overwritten
    #[arg(value_name = "FILE", default_value = TOPOLOGY_FILE)]
    file: PathBuf,
}

/// Writes the built-in topology, with its comments, to a new file.
pub fn run(args: InitArgs) -> Result<(), Failure> {
    let name = args.file.display();
    let created = OpenOptions::new().write(true).create_new(true).open(&args.file);
    let mut file = created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::no(format!("{name}: is there already: move it away, or name another file"))
        }
        _ => Failure::usage(format!("{name}: {error}")),
    })?;
    let written = file.write_all(BUILT_IN_TOPOLOGY.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a file would be taken for a topology.
        let _ = std::fs::remove_file(&args.file);
        Failure::no(format!("{name}: {error}"))
    })?;
    println!("{name}: written. Change it, validate it with `tally check`, and start it with `tally run`");
    Ok(())
}
