//! `tally man`: the manual pages, one for each command.

use super::{Failure, command_line};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `tally man`.
#[derive(Args)]
pub struct ManArgs {
    /// Existing folder for the pages, such as ~/.local/share/man/man1
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes `tally.1`, `tally-run.1` and so on.
pub fn run(args: ManArgs) -> Result<(), Failure> {
    // Otherwise each page has the paths of its commands and those of `help` again.
    let command = command_line().disable_help_subcommand(true);
    let written = clap_mangen::generate_to(command, &args.folder);
    written.map_err(|error| Failure::usage(format!("{}: {error}", args.folder.display())))
}
