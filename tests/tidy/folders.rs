//! Folders of a crate do not use each other.

use super::{Offenders, code, rust_sources};
use std::collections::{BTreeMap, BTreeSet};

/// Exceptions: pairs of folders that use each other, each with its reason.
const CIRCLES_ALLOWED: &[(&str, &str, &str)] = &[(
    "src/commands",
    "src/process",
    "a subcommand starts the process, whose parts are built from the arguments of the subcommand",
)];

/// A path of modules from the root of its crate.
type ModulePath = Vec<String>;

/// The paths that the code of a module names by `crate::` and `super::`, each with its line. Tests do not count.
fn named_paths(text: &str, module: &[String]) -> Vec<(usize, ModulePath)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let text = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
        if text[..at].ends_with(is_path) {
            continue;
        }
        let line = text[..at].lines().count().max(1);
        let (path, behind) = text[at..].split_at(text[at..].find(|c| !is_path(c)).unwrap_or(text.len() - at));
        // `a::{b, c::D}` names two paths.
        let group = behind.strip_prefix('{').and_then(|group| group.split('}').next()).unwrap_or_default();
        for item in group.split(',') {
            let parts = path.split("::").chain(item.trim().split("::")).filter(|part| !part.is_empty());
            let (up, down): (Vec<_>, Vec<_>) = parts.partition(|part| ["crate", "super"].contains(part));
            let base = if up.contains(&"super") { &module[..module.len().saturating_sub(up.len())] } else { &[] };
            found.push((line, base.iter().cloned().chain(down.into_iter().map(str::to_owned)).collect()));
        }
    }
    found
}

/// The source folder of the crate that a file belongs to, with a slash, and the file's path of modules.
fn place(path: &str) -> Option<(&str, ModulePath)> {
    let at = if path.starts_with("src/") { 0 } else { path.find("/src/")? + 1 };
    let (root, file) = path.split_at(at + "src/".len());
    let mut module: ModulePath = file.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
    Some((root, module))
}

#[test]
fn folders_of_a_crate_do_not_use_each_other() {
    let sources: Vec<_> = rust_sources().filter(|source| !source.may_panic()).collect();
    let ends = |path: &'_ str| path.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    let folders: BTreeSet<&str> =
        sources.iter().flat_map(|source| ends(&source.path).into_iter().map(|at| &source.path[..at])).collect();
    // Where the first folder uses the second one for the first time.
    let mut uses: BTreeMap<(String, String), (&str, usize)> = BTreeMap::new();
    for source in &sources {
        let Some((root, module)) = place(&source.path) else { continue };
        for (line, named) in named_paths(&source.text, &module) {
            let common = module.iter().zip(&named).take_while(|(own, other)| own == other).count();
            let folder = |path: &[String]| {
                let folder = format!("{root}{}", path.get(..=common)?.join("/"));
                folders.contains(folder.as_str()).then_some(folder)
            };
            if let (Some(user), Some(used)) = (folder(&module), folder(&named)) {
                uses.entry((user, used)).or_insert((&source.path, line));
            }
        }
    }
    let mut offenders = Offenders::default();
    let mut allowed: BTreeSet<_> = CIRCLES_ALLOWED.iter().map(|(one, other, _)| (*one, *other)).collect();
    for ((one, other), (path, line)) in &uses {
        let Some((back_path, back_line)) = uses.get(&(other.clone(), one.clone())).filter(|_| one < other) else {
            continue;
        };
        if !allowed.remove(&(one.as_str(), other.as_str())) {
            let back = format!("which uses `{one}` at {back_path}:{back_line}");
            offenders.add(path, *line, format!("`{one}` uses `{other}`, {back}"));
        }
    }
    for (one, other) in allowed {
        offenders.add(file!(), 1, format!("`{one}` and `{other}` no longer use each other: remove the exception"));
    }
    offenders.check("Folders that use each other: move what both need to a place of its own:");
}

#[test]
fn every_form_of_a_path_is_found() {
    let module = ["log", "kafka", "native"].map(str::to_owned);
    let text = "use crate::store::Key;\nuse super::{lookup::Lookup, Message}; // crate::comment::X\n\
                fn f(x: super::super::Record, y: tally_crate::A) {}\n#[cfg(test)]\nmod tests {\n    use crate::testkit::X;\n}\n";
    let mut found: Vec<_> =
        named_paths(text, &module).into_iter().map(|(line, path)| (line, path.join("::"))).collect();
    found.sort();
    let expected =
        [(1, "store::Key"), (2, "log::kafka::Message"), (2, "log::kafka::lookup::Lookup"), (3, "log::Record")];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}
