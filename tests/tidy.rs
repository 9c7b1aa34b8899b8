//! Automated review rules: arrows between crates, sizes, names, leftovers, paths, links. Every check lists all
//! offenders as `file:line: what`. Standard library only.

#[path = "tidy/folders.rs"]
mod folders;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which crates of the workspace each crate may use. Everything else is tied together by the root package.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("streams", &[]),
    ("processors", &["model", "streams"]),
    ("proto", &[]),
    ("http", &["model", "proto"]),
    ("access", &["cache", "http", "model"]),
    ("ingest", &["access", "http", "model", "proto", "streams"]),
    ("cache", &["model", "streams"]),
    ("sinks", &["cache", "model", "streams"]),
    ("api", &["access", "cache", "http", "model", "proto", "streams"]),
    ("testkit", &["model"]),
    ("exactness", &["streams", "tally", "testkit"]),
];
/// Crates that tests, benchmarks and examples share: others may have them among their dev-dependencies alone.
const TEST_CRATES: &[&str] = &["exactness", "testkit"];
/// Longer files do not fit a head.
const LINES_MAX: usize = 450;
/// Exceptions: longer files, each with its reason: generated code.
const LONG_FILES: &[&str] = &["proto/src/generated/tally.v1.rs"];
/// Names that do not describe their content.
const EMPTY_WORDS: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "managers", "impl", "impls"];
/// Where `unsafe` is allowed: a file, or a folder with a suffix.
const UNSAFE_ALLOWED: &[&str] = &[
    "streams/src/store/checkpoint/",
    "streams/src/lmdb/damage_tests.rs",
    "streams/src/log/in_process/embedded/",
    "streams/src/log/kafka/native/",
];
/// Where nodes and the runtime meet through traits alone.
const WITHOUT_DOWNCASTS: &[&str] = &["processors/", "streams/src/"];
/// The one list of values of several types: handles know which is which.
const TYPED_HANDLES: &str = "streams/src/store/mod.rs";
/// Suites of tests that are part of a crate, because every engine of the log has to pass them.
const TEST_SUITES: &[&str] = &["streams/src/log/contract/"];
/// How many lines above an `unsafe` block its reason may begin.
const REASON_LINES: usize = 6;
/// What the README must name, and the Makefile must have.
const COMMANDS: &[&str] = &["run", "test", "check", "setup", "services", "bench"];

/// A text file of the repository.
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_script(&self) -> bool {
        self.text.starts_with("#!")
    }

    /// Tests, benchmarks and examples: they report failures by a panic.
    fn may_panic(&self) -> bool {
        let mut folders = self.path.split('/').rev().skip(1);
        folders.any(|folder| ["tests", "benches", "examples"].contains(&folder))
            || self.path.ends_with("tests.rs")
            || TEST_SUITES.iter().any(|suite| self.path.starts_with(suite))
            || TEST_CRATES.iter().any(|name| self.path.split('/').next() == Some(name))
    }
}

fn root() -> PathBuf {
    let told = option_env!("CARGO_MANIFEST_DIR").map(PathBuf::from).filter(|dir| dir.join("Cargo.toml").exists());
    told.or_else(|| std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from))
        .unwrap_or_else(|| std::env::current_dir().expect("a working directory"))
}

/// Every text file that is in the repository, or would be with the next `git add`. Without git: every file.
fn sources() -> Vec<Source> {
    let root = root();
    let listed = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()
        .filter(|listed| listed.status.success());
    let mut paths = BTreeSet::new();
    match listed {
        Some(listed) => {
            let names = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            paths.extend(names.map(|name| String::from_utf8_lossy(name).into_owned()));
        }
        None => walk(&root, &root, &mut paths),
    }
    let read = |path: String| {
        // Files that are not UTF-8 are not text; files that are listed but missing are about to be deleted.
        let text = fs::read_to_string(root.join(&path)).ok()?;
        Some(Source { path, text })
    };
    let sources: Vec<_> = paths.into_iter().filter_map(read).collect();
    assert!(sources.iter().any(|source| source.path == "Cargo.toml"), "{} is not the repository", root.display());
    sources
}

fn rust_sources() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(Source::is_rust)
}

fn walk(root: &Path, dir: &Path, paths: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !["target", "data", ".git", "node_modules", "dist"].iter().any(|skipped| name == *skipped) {
                walk(root, &path, paths);
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            paths.insert(relative.to_string_lossy().into_owned());
        }
    }
}

/// What is wrong, collected, so that one run shows all of it.
#[derive(Default)]
struct Offenders(Vec<String>);

impl Offenders {
    fn add(&mut self, path: &str, line: usize, what: impl Display) {
        self.0.push(format!("{path}:{line}: {what}"));
    }

    #[track_caller]
    fn check(self, rule: &str) {
        assert!(self.0.is_empty(), "{rule}\n  {}\n", self.0.join("\n  "));
    }
}

/// The part of a line before a comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` occurs in `text` as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
}

/// The crates of this workspace in the `[dependencies]` of a manifest, each with its line.
fn tally_dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines().map(str::trim)) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            // Also `[dependencies.tally-model]` and `[target.'cfg(unix)'.dependencies]`.
            let (table, entry) =
                header.split_once("dependencies.").map_or((header, None), |(_, entry)| ("dependencies", Some(entry)));
            let other = header.starts_with("dev-") || header.starts_with("workspace.");
            inside = (table == "dependencies" || table.ends_with(".dependencies")) && !other;
            if let Some(entry) = entry.filter(|_| inside) {
                found.extend(entry.strip_prefix("tally-").map(|name| (number, name.to_owned())));
            }
            continue;
        }
        if !inside || line.starts_with('#') {
            continue;
        }
        let key = line.split(['.', '=', ' ']).next().unwrap_or_default().trim_matches('"');
        let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
        for name in [Some(key), renamed].into_iter().flatten() {
            if name == "tally" || name.starts_with("tally-") {
                found.push((number, name.strip_prefix("tally-").unwrap_or(name).to_owned()));
            }
        }
    }
    found
}

/// The folders of the workspace's crates.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let list = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.expect("a list of members");
    list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn crates_use_only_what_the_design_lets_them() {
    let mut offenders = Offenders::default();
    for member in members() {
        let path = format!("{member}/Cargo.toml");
        let manifest = fs::read_to_string(root().join(&path)).expect("every member has a manifest");
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member) else {
            offenders.add(&path, 1, format!("say in {} which crates `{member}` may use", file!()));
            continue;
        };
        for (line, used) in tally_dependencies(&manifest) {
            if !allowed.contains(&used.as_str()) {
                offenders.add(&path, line, format!("`{member}` must not use `{used}`; it may use {allowed:?}"));
            }
        }
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for (line, used) in tally_dependencies(&manifest).iter().filter(|(_, used)| TEST_CRATES.contains(&used.as_str())) {
        offenders.add("Cargo.toml", *line, format!("the binary must not use `{used}`"));
    }
    offenders.check("Arrows between crates (ARCHITECTURE.md):");
}

#[test]
fn the_arrow_check_sees_every_form_of_a_dependency() {
    let manifest = "[package]\nname = \"tally-x\"\n[dependencies]\ntally-model.workspace = true\nserde = \"1\"\n\
                    tally-api = { path = \"api\" }\nother = { package = \"tally-sinks\" }\n# tally-http = \"1\"\n\
                    [workspace.dependencies]\ntally-access = \"1\"\n\
                    [dependencies.tally-ingest]\npath = \"x\"\n[dev-dependencies]\ntally-http = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\ntally-streams = \"1\"\n[dev-dependencies.tally-http]\npath = \"x\"\n";
    let found: Vec<_> = tally_dependencies(manifest).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["model", "api", "sinks", "ingest", "streams"]);
}

#[test]
fn files_stay_short() {
    let mut offenders = Offenders::default();
    for source in rust_sources().filter(|source| !LONG_FILES.contains(&source.path.as_str())) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            offenders.add(&source.path, lines, format!("{lines} lines"));
        }
    }
    offenders.check(&format!("Rust files of more than {LINES_MAX} lines: cut them where the nouns part:"));
}

#[test]
fn names_say_what_is_inside() {
    let mut offenders = Offenders::default();
    let empty = |name: &str| name.split(['_', '-', '.']).find(|word| EMPTY_WORDS.contains(word)).map(str::to_owned);
    for source in rust_sources() {
        if let Some(word) = source.path.split('/').find_map(empty) {
            offenders.add(&source.path, 1, format!("`{word}` in the path"));
        }
        for (number, line) in source.lines() {
            let line = code(line).trim_start();
            let declared = line.split_once("mod ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            let name = declared.and_then(|(_, rest)| rest.split([' ', ';', '{']).next()).unwrap_or_default();
            if let Some(word) = empty(name) {
                offenders.add(&source.path, number, format!("`{word}` in `mod {name}`"));
            }
        }
    }
    offenders.check("Names that say nothing of what is inside:");
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, so that this file does not find itself.
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut offenders = Offenders::default();
    for source in sources().into_iter().filter(|source| source.is_rust() || source.is_script()) {
        for (number, line) in source.lines() {
            let found = macros.iter().find(|text| line.contains(**text));
            if let Some(found) = found.or_else(|| words.iter().find(|word| has_word(line, word))) {
                offenders.add(&source.path, number, format!("`{found}`"));
            }
        }
    }
    offenders.check("Finish it, or write an issue:");
}

#[test]
fn scripts_say_what_they_do_and_stop_at_the_first_error() {
    let mut offenders = Offenders::default();
    for source in sources().into_iter().filter(Source::is_script) {
        if !source.text.starts_with("#!/usr/bin/env bash\n# ") {
            offenders.add(&source.path, 1, "does not begin with `#!/usr/bin/env bash` and what it does");
        }
        if !source.lines().any(|(_, line)| line == "set -euo pipefail") {
            offenders.add(&source.path, 1, "no `set -euo pipefail`");
        }
    }
    offenders.check("Scripts:");
}

#[test]
fn nothing_unwraps_outside_of_tests() {
    let unwrap = concat!(".unwrap", "()");
    let mut offenders = Offenders::default();
    for source in rust_sources().filter(|source| !source.may_panic()) {
        let before_tests = source.lines().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        for (number, line) in before_tests {
            // Examples in doc comments are tests.
            if code(line).contains(unwrap) {
                offenders.add(&source.path, number, line.trim());
            }
        }
    }
    offenders.check("Errors are values: give this one a cause and an address, or say in `expect` why it cannot be:");
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let roots = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut offenders = Offenders::default();
    for source in sources() {
        for (number, line) in source.lines() {
            for path in roots {
                // Behind a letter it is the middle of another path or of an address.
                let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_.-}".contains(c));
                if line.match_indices(path).any(|(at, _)| begins(at)) {
                    offenders.add(&source.path, number, format!("`{path}`"));
                }
            }
        }
    }
    offenders.check("Paths of one machine; use relative ones, or a temporary directory:");
}

#[test]
fn no_module_is_included_from_another_folder() {
    let above = concat!("#[pa", "th = \"../");
    let mut offenders = Offenders::default();
    for source in rust_sources() {
        let included = source.lines().filter(|(_, line)| line.contains(above));
        included.for_each(|(number, line)| offenders.add(&source.path, number, line));
    }
    offenders.check("What several tests share belongs into the crate `testkit`:");
}

#[test]
fn ignored_tests_say_why() {
    let bare = concat!("#[igno", "re");
    let mut offenders = Offenders::default();
    for source in rust_sources() {
        for (number, line) in source.lines().filter(|(_, line)| code(line).contains(bare)) {
            if !line.contains(concat!("#[igno", "re = \"")) {
                offenders.add(&source.path, number, line.trim());
            }
        }
    }
    offenders.check("Ignored tests without a reason, like `= \"takes an hour\"`:");
}

#[test]
fn unsafe_code_stands_where_it_may_and_says_why_it_is_sound() {
    let keyword = concat!("uns", "afe");
    let mut offenders = Offenders::default();
    for source in rust_sources() {
        let is_bench = source.path.split('/').any(|folder| folder == "benches");
        let allowed = is_bench || UNSAFE_ALLOWED.iter().any(|path| source.path.starts_with(path));
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| has_word(code(line), keyword)) {
            let above = &lines[at.saturating_sub(REASON_LINES)..at];
            if !allowed {
                offenders.add(&source.path, at + 1, format!("not allowed here: {}", line.trim()));
            } else if !is_bench && !above.iter().any(|line| line.contains("SAFETY:")) {
                offenders.add(&source.path, at + 1, "no `SAFETY:` above it");
            }
        }
    }
    offenders.check("Code that the compiler does not check:");
}

#[test]
fn nodes_publish_facts_instead_of_being_downcast() {
    let casts = [concat!("down", "cast"), concat!("as_", "any")];
    let mut offenders = Offenders::default();
    let sources = rust_sources().filter(|source| WITHOUT_DOWNCASTS.iter().any(|path| source.path.starts_with(path)));
    for source in sources.filter(|source| source.path != TYPED_HANDLES) {
        for (number, line) in source.lines().filter(|(_, line)| casts.iter().any(|cast| code(line).contains(cast))) {
            offenders.add(&source.path, number, line.trim());
        }
    }
    offenders.check("Ask `facts()`, or a method of the trait, what a node is:");
}

#[test]
fn every_crate_says_what_it_is() {
    let mut offenders = Offenders::default();
    for path in members().into_iter().map(|member| format!("{member}/src/lib.rs")).chain(["src/lib.rs".to_owned()]) {
        let text = fs::read_to_string(root().join(&path)).expect("every crate is a library");
        if !text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!")) {
            offenders.add(&path, 1, "begins without `//!`");
        }
    }
    offenders.check("Crates without documentation:");
}

/// The targets of a line's Markdown links; text in back quotes is no link.
fn link_targets(line: &str) -> Vec<&str> {
    let outside_of_code = line.split('`').step_by(2);
    let links = outside_of_code.flat_map(|part| part.split("](").skip(1));
    links.filter_map(|rest| rest.split([')', ' ', '#']).next()).filter(|target| !target.is_empty()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut offenders = Offenders::default();
    for source in sources().into_iter().filter(|source| source.path.ends_with(".md")) {
        let folder = root().join(&source.path).parent().map(Path::to_owned).unwrap_or_default();
        let mut fenced = false;
        for (number, line) in source.lines() {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            if fence || fenced {
                continue;
            }
            for target in link_targets(line) {
                if !target.contains("://") && !target.starts_with("mailto:") && !folder.join(target).exists() {
                    offenders.add(&source.path, number, format!("`{target}` does not exist"));
                }
            }
        }
    }
    offenders.check("Links that lead nowhere:");
}

#[test]
fn link_targets_are_found() {
    let line = "see [a](docs/a.md), `[no](no.md)` and [b](b.md#part \"title\") or [here](#here) ![p](p.png)";
    assert_eq!(link_targets(line), ["docs/a.md", "b.md", "p.png"]);
}

#[test]
fn the_readme_names_the_commands_that_the_makefile_has() {
    let mut offenders = Offenders::default();
    for (path, form) in [("README.md", "make {}"), ("Makefile", "\n{}:")] {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        for command in COMMANDS {
            let wanted = form.replace("{}", command);
            if !text.contains(&wanted) {
                offenders.add(path, 1, format!("no `{}`", wanted.trim()));
            }
        }
    }
    offenders.check("A newcomer finds the commands in the README and in the Makefile:");
}
