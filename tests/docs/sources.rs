//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of the crates.
pub const CRATES: &[&str] =
    &["access", "api", "cache", "http", "ingest", "model", "processors", "sinks", "streams", "."];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document of the repository, as path and text.
pub fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().display()));
    names.extend(docs.filter(|name| name.ends_with(".md")));
    names.sort();
    names.into_iter().map(|name| (name.clone(), document(&name))).collect()
}

/// The code of a crate, without its tests, as path and text.
pub fn code(krate: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    walk(&root().join(krate).join("src"), &["rs"], &mut files);
    files.retain(|(path, _)| !path.file_stem().is_some_and(|stem| stem.display().to_string().ends_with("tests")));
    for (_, text) in &mut files {
        let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
        text.truncate(end);
    }
    files
}

/// Every Rust file of a crate, its tests included.
pub fn all_code(krate: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        walk(&root().join(krate).join(folder), &["rs"], &mut files);
    }
    files
}

/// The code of the page and the console, without its tests.
pub fn web() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    walk(&root().join("web/src"), &["ts", "vue"], &mut files);
    files.retain(|(path, _)| !path.display().to_string().ends_with(".test.ts"));
    files
}

fn walk(dir: &Path, extensions: &[&str], files: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, extensions, files);
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
}
