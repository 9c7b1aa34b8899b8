//! `docs/commands.md`: every subcommand and flag, as clap has them.

use crate::{assert_generated, sources};
use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

const DOCUMENT: &str = "docs/commands.md";
/// The subcommands that share most of their flags: one table for all of them.
const ROLES: &[&str] = &["run", "ingest", "process", "sink", "api"];

const HEAD: &str = "\
# Commands and flags

Generated from the code by [tests/docs/commands.rs](../tests/docs/commands.rs): do not edit. `tally COMMAND --help` prints the same.
A flag overrides its environment variable. A flag or variable without effect is an error: exit code 2 and the reason.

More on [authentication, rate limits and proxies](operations.md#authentication-and-authorization),
[clocks](operations.md#clocks), [MySQL and MariaDB](operations.md#mysql-and-mariadb), [Redis](operations.md#redis),
[TLS and SASL for Kafka](operations.md#tls-and-sasl), [changes of the topology](operations.md#changing-the-topology),
[wire versions](operations.md#upgrading), [the page and the console](web.md).
";

/// A cell of a table.
fn cell(text: &str) -> String {
    text.trim().replace('\n', " ").replace('|', "\\|")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

/// `--flag VALUE`, or `VALUE` of a positional argument.
fn spelling(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let mut value = names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ");
    if arg.get_value_delimiter().is_some() {
        value += ",…";
    }
    let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match arg.get_long() {
        Some(long) if !arg.get_action().takes_values() => format!("--{long}"),
        Some(long) if is_optional => format!("--{long} [{value}]"),
        Some(long) => format!("--{long} {value}"),
        None => value,
    }
}

/// The cells of an argument: spelling, environment, default, help.
fn cells(arg: &Arg) -> [String; 4] {
    let env = arg.get_env().map(|name| name.display().to_string()).unwrap_or_default();
    let takes_values = arg.get_action().takes_values();
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.display().to_string()).collect();
    let default = if takes_values { defaults.join(",") } else { String::new() };
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible = if takes_values { arg.get_possible_values() } else { Vec::new() };
    for value in possible.iter().filter(|value| !value.is_hide_set()) {
        let about = value.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
        let separator = if value == &possible[0] { ": " } else { ", " };
        write!(help, "{separator}`{}`{about}", value.get_name()).unwrap();
    }
    if arg.is_required_set() && arg.get_long().is_some() {
        help += " (required)";
    }
    [code(&spelling(arg)), code(&env), code(&default), cell(&help)]
}

/// The arguments of a command that are its own.
fn args(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version))
}

fn reference() -> String {
    let mut tally = tally::commands::command_line();
    tally.build();
    let mut out = HEAD.to_owned();
    out += "\n| command | |\n|---|---|\n";
    let commands: Vec<_> = tally.get_subcommands().filter(|command| command.get_name() != "help").collect();
    for command in &commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "| `tally {}` | {} |", command.get_name(), cell(&about)).unwrap();
    }
    let of_role: Vec<_> = commands.iter().filter(|command| ROLES.contains(&command.get_name())).collect();
    let mut rows: Vec<([String; 4], Vec<&str>)> = Vec::new();
    for command in &of_role {
        for arg in args(command) {
            let cells = cells(arg);
            match rows.iter_mut().find(|(known, _)| *known == cells) {
                Some((_, of)) => of.push(command.get_name()),
                None => rows.push((cells, vec![command.get_name()])),
            }
        }
    }
    let names: Vec<_> = ROLES.iter().map(|name| format!("`{name}`")).collect();
    writeln!(out, "\n## {}\n\n| flag | environment | default | commands | |\n|---|---|---|---|---|", names.join(", "))
        .unwrap();
    for ([flag, env, default, help], of) in rows {
        let of = if of.len() == ROLES.len() { "all".to_owned() } else { of.join(", ") };
        writeln!(out, "| {flag} | {env} | {default} | {of} | {help} |").unwrap();
    }
    for command in commands.iter().filter(|command| !ROLES.contains(&command.get_name())) {
        writeln!(
            out,
            "\n## `tally {}`\n\n| argument | environment | default | |\n|---|---|---|---|",
            command.get_name()
        )
        .unwrap();
        for arg in args(command) {
            writeln!(out, "| {} |", cells(arg).join(" | ")).unwrap();
        }
        if let Some(text) = command.get_after_help() {
            writeln!(out, "\n{}", text.to_string().trim()).unwrap();
        }
    }
    // Empty cells without a second space.
    while out.contains("|  |") {
        out = out.replace("|  |", "| |");
    }
    out
}

#[test]
fn the_reference_has_the_commands_and_flags_of_the_program() {
    assert_generated(DOCUMENT, &reference());
}

/// A flag or variable of `tally` that another document names exists. Tests have variables of their own (docs/testing.md).
#[test]
fn flags_and_variables_in_documents_exist() {
    let mut tally = tally::commands::command_line();
    tally.build();
    let args: Vec<_> = tally.get_subcommands().flat_map(|command| command.get_arguments()).collect();
    let flags: Vec<_> = args.iter().filter_map(|arg| arg.get_long()).chain(OTHER_PROGRAMS.iter().copied()).collect();
    let variables = args.iter().filter_map(|arg| arg.get_env().map(|name| name.display().to_string()));
    let variables: Vec<_> = variables.chain(BUILD_VARIABLES.iter().map(ToString::to_string)).collect();
    let mut unknown = Vec::new();
    for (name, text) in sources::documents().into_iter().filter(|(name, _)| name != "docs/testing.md") {
        for (number, line) in (1..).zip(text.lines()) {
            for code in line.split('`').skip(1).step_by(2) {
                let flag = code.strip_prefix("--").and_then(|rest| rest.split([' ', '=', '[']).next());
                let flag = flag.filter(|flag| !flag.is_empty() && !flag.ends_with('…'));
                let is_variable =
                    code.starts_with("TALLY_") && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                if flag.is_some_and(|flag| !flags.contains(&flag))
                    || is_variable && !variables.iter().any(|known| known == code)
                {
                    unknown.push(format!("{name}:{number}: {code}"));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "no such flag or variable:\n  {}", unknown.join("\n  "));
}

/// Flags of other programs that documents name.
const OTHER_PROGRAMS: &[&str] = &["command-config", "config", "features"];
/// Variables that are read when `tally` is built.
const BUILD_VARIABLES: &[&str] = &["TALLY_REVISION"];
