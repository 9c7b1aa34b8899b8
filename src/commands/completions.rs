//! `tally completions`: commands and flags for the completion of a shell.

use super::{Failure, command_line};
use clap::Args;
use clap_complete::{Shell, generate};

/// Arguments of `tally completions`.
#[derive(Args)]
#[command(after_help = "\
bash: tally completions bash > ~/.local/share/bash-completion/completions/tally
zsh:  tally completions zsh > a folder of $fpath/_tally
fish: tally completions fish > ~/.config/fish/completions/tally.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints them.
pub fn run(args: CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut command_line(), "tally", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(())
}
