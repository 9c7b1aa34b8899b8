//! The table in mistakes.txt.

use crate::dataflow::{changed, load};

#[test]
fn every_mistake_is_named_once_and_nothing_else_is() {
    let table = include_str!("mistakes.txt");
    let blocks: Vec<&str> = table.split("\n\n").filter(|block| !block.starts_with('#') && !block.is_empty()).collect();
    assert!(blocks.len() >= 30, "only {} blocks", blocks.len());
    let mut wrong = Vec::new();
    for block in blocks {
        let (inputs, expected): (Vec<&str>, Vec<&str>) =
            block.lines().partition(|line| ["replace:", "with:", "file:"].iter().any(|key| line.starts_with(key)));
        let field = |key: &str| inputs.iter().find_map(|line| line.strip_prefix(key)).map(unescape);
        let text = match (field("file:"), field("replace:"), field("with:")) {
            (Some(file), None, None) => file,
            (None, Some(from), Some(to)) => changed(&from, &to),
            _ => panic!("neither `file` nor `replace` and `with`:\n{block}"),
        };
        let found: Vec<String> = match load(&text) {
            Ok(_) => vec!["no mistake".into()],
            Err(diagnostics) => {
                (diagnostics.0.iter()).map(|one| one.to_string().lines().next().unwrap_or_default().into()).collect()
            }
        };
        if found != expected {
            wrong.push(format!("{}\n{}\n", inputs.join("\n"), found.join("\n")));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} blocks differ. They should be, or the loader is wrong:\n\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// One blank behind the key is not part of the value.
fn unescape(field: &str) -> String {
    let field = field.strip_prefix(' ').unwrap_or(field);
    field.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
}
