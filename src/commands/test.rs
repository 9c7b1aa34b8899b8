//! `tally test`: does a topology do what its tests expect?

use super::Failure;
use crate::testing::{Outcome, Suite, Summary, TestFile, junit, print_case, run_case};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tally_processors::REGISTRY;
use tally_streams::topology::Diagnostics;

/// How the names of test files end.
const SUFFIX: &str = "_test.yaml";
/// Folders without test files of one's own.
const SKIPPED: &[&str] = &["target", "node_modules"];
/// Pause between looks at the files under `--watch`.
const WATCH_PAUSE: Duration = Duration::from_millis(300);

/// Arguments of `tally test`.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 all cases passed, 1 a case failed, 2 a file has mistakes or none was found.")]
pub struct TestArgs {
    /// Test files, and directories in which every `*_test.yaml` is one
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Run only the cases whose `FILE: NAME` contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write the results to this file, in the XML format of JUnit
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Run again whenever a test file or a topology changes
    #[arg(long)]
    watch: bool,
}

/// Runs all cases and prints their results.
pub fn run(args: TestArgs) -> Result<(), Failure> {
    let mut topologies = BTreeSet::new();
    if !args.watch {
        return run_once(&args, &mut topologies);
    }
    loop {
        // Before the run: a change during it may have come too late for it.
        let mut before = stamps(&args.paths, &topologies);
        let result = run_once(&args, &mut topologies);
        for path in &topologies {
            before.entry(path.clone()).or_insert_with(|| changed_at(path));
        }
        if let Err(Failure::No(reason) | Failure::Usage(reason)) = result
            && !reason.is_empty()
        {
            eprintln!("{reason}");
        }
        println!("waiting for changes; Ctrl-C ends");
        while stamps(&args.paths, &topologies) == before {
            std::thread::sleep(WATCH_PAUSE);
        }
        println!();
    }
}

/// A test file that was run.
struct Ran {
    name: String,
    /// Name and outcome of each case.
    cases: Vec<(String, Outcome)>,
    mistakes: Option<String>,
}

/// Runs all cases once. Adds the files of the topologies that they run on.
fn run_once(args: &TestArgs, topologies: &mut BTreeSet<PathBuf>) -> Result<(), Failure> {
    let files = test_files(&args.paths)?;
    if files.is_empty() {
        let shown: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::usage(format!("{}: no file named `*{SUFFIX}`", shown.join(", "))));
    }
    let mut summary = Summary::default();
    let mut ran = Vec::new();
    for path in &files {
        ran.extend(run_file(path, args.filter.as_deref(), &mut summary, topologies)?);
    }
    if ran.is_empty() {
        let filter = args.filter.as_deref().unwrap_or_default();
        return Err(Failure::usage(format!("no case matches --filter {filter}")));
    }
    summary.files = ran.len();
    println!("{}", summary.text());
    if let Some(path) = &args.junit {
        let suites: Vec<_> = ran
            .iter()
            .map(|Ran { name, cases, mistakes }| Suite {
                file: name,
                cases: cases.iter().map(|(name, outcome)| (name.as_str(), outcome)).collect(),
                mistakes: mistakes.as_deref(),
            })
            .collect();
        std::fs::write(path, junit(&suites))
            .map_err(|error| Failure::usage(format!("--junit {}: {error}", path.display())))?;
    }
    match summary {
        Summary { mistaken: 1.., .. } => Err(Failure::usage("")),
        Summary { failed: 1.., .. } => Err(Failure::no("")),
        _ => Ok(()),
    }
}

/// Runs the cases of a file; None if the filter leaves none.
fn run_file(
    path: &Path,
    filter: Option<&str>,
    summary: &mut Summary,
    topologies: &mut BTreeSet<PathBuf>,
) -> Result<Option<Ran>, Failure> {
    let name = path.display().to_string();
    let folder = path.parent().unwrap_or(Path::new(""));
    let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
    let file = match TestFile::load(&name, &text, folder, REGISTRY) {
        Ok(file) => file,
        Err(diagnostics) => return Ok(Some(mistaken(name, &diagnostics, summary))),
    };
    topologies.insert(file.topology_path.clone());
    let mut cases = Vec::new();
    for case in &file.cases {
        if filter.is_some_and(|filter| !format!("{name}: {}", case.name).contains(filter)) {
            continue;
        }
        let outcome = run_case(&file.topology, case);
        match outcome {
            Outcome::Passed(_) => summary.passed += 1,
            Outcome::Failed(_) => summary.failed += 1,
        }
        print!("{}", print_case(&name, case, &outcome));
        cases.push((case.name.clone(), outcome));
    }
    Ok((!cases.is_empty()).then_some(Ran { name, cases, mistakes: None }))
}

fn mistaken(name: String, diagnostics: &Diagnostics, summary: &mut Summary) -> Ran {
    summary.mistaken += 1;
    let mistakes = diagnostics.to_string();
    eprintln!("{mistakes}\n");
    Ran { name, cases: Vec::new(), mistakes: Some(mistakes) }
}

/// The test files among these paths, and in these directories, each once.
fn test_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
        let is_folder = std::fs::metadata(path).map_err(failed)?.is_dir();
        if is_folder {
            walk(path, &mut files).map_err(failed)?;
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // `.` itself is left out of the names of the files in it.
        let path = if folder == Path::new(".") { PathBuf::from(&*name) } else { folder.join(&*name) };
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&&*name) {
                walk(&path, files)?;
            }
        } else if name.ends_with(SUFFIX) {
            files.push(path);
        }
    }
    Ok(())
}

/// When each test file, each file of YAML beside one, and each topology was changed.
fn stamps(paths: &[PathBuf], topologies: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let mut watched = topologies.clone();
    for file in test_files(paths).unwrap_or_default() {
        let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let beside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        watched.extend(beside.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")));
        watched.insert(file);
    }
    watched.into_iter().map(|path| (path.clone(), changed_at(&path))).collect()
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|known| known.modified()).ok()
}
