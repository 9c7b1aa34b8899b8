//! The tests that `docs/wire.md` names exist, so that every format is held by the test that the document promises.

use crate::sources;

const DOCUMENT: &str = "docs/wire.md";
/// Names of tests are sentences.
const WORDS_MIN: usize = 4;

#[test]
fn tests_that_the_formats_name_exist() {
    let code: String =
        sources::CRATES.iter().flat_map(|krate| sources::all_code(krate)).map(|(_, text)| text).collect();
    let document = sources::document(DOCUMENT);
    let names = document.split('`').skip(1).step_by(2).filter(|name| name.split('_').count() >= WORDS_MIN);
    let names: Vec<_> =
        names.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')).collect();
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<_> = names.into_iter().filter(|name| !code.contains(&format!("fn {name}()"))).collect();
    assert!(missing.is_empty(), "{DOCUMENT} names tests that do not exist: {missing:?}");
}
