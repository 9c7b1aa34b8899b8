//! For any content of a file, the loader reports what is wrong and where.

use crate::dataflow::{GOOD, load};
use proptest::prelude::*;

/// Byte edits: where, and what to put there; nothing removes the byte.
fn edited(edits: &[(prop::sample::Index, Option<u8>)]) -> String {
    let mut bytes = GOOD.as_bytes().to_vec();
    for (at, byte) in edits {
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = *byte,
            None => drop(bytes.remove(at)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(diagnostics) = load(text) else { return Ok(()) };
    let text = text.replace("\r\n", "\n");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    prop_assert!(!diagnostics.0.is_empty());
    let mut before = (0, 0);
    for one in &diagnostics.0 {
        prop_assert!((1..=lines.len()).contains(&one.line), "line {} of {}", one.line, lines.len());
        let chars = lines[one.line - 1].chars().count();
        prop_assert!((1..=chars + 1).contains(&one.column), "column {} of {chars}", one.column);
        prop_assert!(before <= (one.line, one.column));
        before = (one.line, one.column);
        prop_assert!(one.caret_length >= 1 && one.caret <= one.source_line.chars().count());
        prop_assert!(!one.message.is_empty() && !one.message.contains('\n'));
    }
    Ok(())
}

/// Bytes that mean something in YAML, more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"[]{}:,#&*!|>'\"%@`-?\n\t\r 0159azAZ_.~<=\\/".to_vec()),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn load_never_panics_and_points_into_the_file(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.8, byte())), 1..12)
    ) {
        check(&edited(&edits))?;
    }

    #[test]
    fn lines_may_be_lost_doubled_or_shuffled(
        lines in prop::collection::vec(prop::sample::select(GOOD.lines().collect::<Vec<_>>()), 0..40),
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        check(&lines.join(ending))?;
    }

    #[test]
    fn anything_at_all(text in any::<String>()) {
        check(&text)?;
    }
}
