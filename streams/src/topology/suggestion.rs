//! Did you mean …?

/// As many names as a line of help can list.
const LISTED_MAX: usize = 16;
/// Bounds the time for a file of thousands of misspelt names.
const COMPARED_MAX: usize = 1_000;

/// The candidate that a misspelt word most likely means, if any is close.
pub(super) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = plain(word);
    let distance = |candidate: &str| {
        let (candidate, length) = (plain(candidate), word.chars().count().max(candidate.chars().count()));
        // Two letters are too few to distinguish a slip from another word.
        let distance_max = if length <= 2 { 0 } else { length / 3 };
        // Before the distance is computed, which takes the product of both lengths.
        let near = candidate.len().abs_diff(word.len()) <= 4 * distance_max;
        near.then(|| strsim::osa_distance(&word, &candidate)).filter(|distance| *distance <= distance_max)
    };
    let candidates = candidates.into_iter().take(COMPARED_MAX);
    let near = candidates.filter_map(|candidate| Some((distance(candidate)?, candidate)));
    near.min().map(|(_, candidate)| candidate)
}

/// `did you mean …?`, or the list of candidates.
pub fn help<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>, plural: &str) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(candidate) = closest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{candidate}`?"));
    }
    match candidates.len() {
        0 => None,
        n if n > LISTED_MAX => Some(format!("known {plural}: {}, …", candidates[..LISTED_MAX].join(", "))),
        _ => Some(format!("known {plural}: {}", candidates.join(", "))),
    }
}

/// A name without common confusions: case, and `-` for `_`.
fn plain(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let types = ["dedupe", "decode", "toggle", "on"];
        assert_eq!(closest("dedup", types), Some("dedupe"));
        assert_eq!(closest("Toggel", types), Some("toggle"));
        assert_eq!(closest("rate_check", ["rate-check"]), Some("rate-check"));
        assert_eq!(closest("total", types), None);
        assert_eq!(closest("mx", ["max"]), Some("max"));
        assert_eq!(closest("of", types), None);
        assert_eq!(closest("", types), None);
    }

    #[test]
    fn help_lists_what_there_is_when_nothing_is_close() {
        assert_eq!(help("zebra", ["a", "b"], "keys").as_deref(), Some("known keys: a, b"));
        assert_eq!(help("zebra", [], "keys"), None);
        let many: Vec<String> = (0..20).map(|i| format!("name-{i}")).collect();
        let text = help("zebra", many.iter().map(String::as_str), "keys").unwrap();
        assert!(text.ends_with("name-15, …"), "{text}");
    }
}
