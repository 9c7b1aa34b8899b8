//! Diagnostics as people see them.

use crate::dataflow::{GOOD, changed, changed_in, load};

fn rendered(text: &str) -> String {
    load(text).err().map(|diagnostics| diagnostics.to_string()).unwrap_or_default()
}

#[test]
fn the_caret_stands_under_the_word_and_help_names_what_was_meant() {
    let expected = "\
topology.yaml:13:19: unknown node type `dedup`
13 |   fresh:  { type: dedup, from: valid }
   |                   ^^^^^
help: did you mean `dedupe`?";
    assert_eq!(rendered(&changed("type: dedupe", "type: dedup")), expected);
}

#[test]
fn the_caret_of_an_unknown_parameter_stands_under_its_key() {
    let expected = "\
topology.yaml:15:31: unknown key `maxx`
15 |               { name: burst,  maxx: 60, per: 10s },
   |                               ^^^^
help: did you mean `max`?";
    // `max` is not reported as missing as well.
    assert_eq!(rendered(&changed("max: 60", "maxx: 60")), expected);
}

#[test]
fn a_parameter_is_found_by_its_path_even_where_its_name_has_dots() {
    let expected = "\
topology.yaml:20:79: `score.likes.all`: expected a number, found the string `x`
20 |   hot:    { type: board,  from: [likes, views], score: { likes: 4, likes.all: x }, top: 100, to: rankings }
   |                                                                               ^";
    let text = changed("views: 0.1", "likes.all: x");
    assert_eq!(rendered(&text), expected);
}

#[test]
fn without_help_the_caret_comes_last() {
    let expected = "\
topology.yaml:2:13: `10s` is too short; at least 1m
2 | late_after: 10s
  |             ^^^";
    assert_eq!(rendered(&changed("late_after: 2h", "late_after: 10s")), expected);
}

#[test]
fn a_circle_is_named_whole_from_its_first_node() {
    let expected = "\
topology.yaml:13:33: nodes read each other in a circle: `fresh` reads `calm` reads `fresh`
13 |   fresh:  { type: dedupe, from: calm }
   |                                 ^^^^
help: records flow one way only";
    assert_eq!(rendered(&changed("from: valid", "from: calm")), expected);
}

#[test]
fn three_independent_mistakes_are_reported_in_the_order_of_the_file() {
    let text = changed("records_max: 500", "records_max: none");
    let text = changed_in(&text, "late_after: 2h", "commit_interval: 1m");
    let text = changed_in(&text, "type: decode", "type: decoed");
    let expected = "\
topology.yaml:2:18: `1m` is too long; at most 10s
2 | commit_interval: 1m
  |                  ^^

topology.yaml:12:19: unknown node type `decoed`
12 |   valid:  { type: decoed, from: actions, on_error: dead-letter }
   |                   ^^^^^^
help: did you mean `decode`?

topology.yaml:23:81: expected a whole number from 1 to 100000, found the string `none`
23 |   database: { type: database, from: [counters, rankings], batch: { records_max: none, linger: 100ms } }
   |                                                                                 ^^^^";
    assert_eq!(rendered(&text), expected);
}

#[test]
fn columns_are_characters_and_tabs_keep_their_width() {
    let text = "application: \"té\\tst\"\t# é\ntopics: [é, 5]\n";
    let text = rendered(text);
    assert!(text.contains("topology.yaml:2:9: `topics` must be a mapping, but this is a list\n"), "{text}");
    let tab = rendered("{ \"é\":\t5 }");
    let expected = "topology.yaml:1:3: unknown key `é`\n1 | { \"é\":\t5 }\n  |   ^^^\n";
    assert!(tab.contains(expected), "{tab}");
}

#[test]
fn a_line_without_end_is_cut_around_the_place() {
    let text = GOOD.replace("late_after: 2h\n", &format!("late_after: \"{}\"\n", "x".repeat(5_000)));
    let rendered = rendered(&text);
    let lines: Vec<&str> = rendered.lines().collect();
    assert!(lines[0].starts_with("topology.yaml:2:13: expected a duration") && lines[0].ends_with('…'), "{}", lines[0]);
    assert!(lines.iter().all(|line| line.chars().count() < 500), "{rendered}");
    let long_before = load(&format!("{}zebra: 1 }}", "{ application: x,".to_owned() + &" ".repeat(5_000)));
    let zebra = long_before.err().and_then(|all| all.0.into_iter().find(|one| one.message.contains("zebra")));
    let zebra = zebra.expect("the unknown key is reported");
    assert_eq!(zebra.column, 5_018);
    assert_eq!(zebra.source_line.chars().skip(zebra.caret).take(zebra.caret_length).collect::<String>(), "zebra");
}

#[test]
fn a_file_of_nothing_but_mistakes_ends_after_a_hundred() {
    let keys: String = (0..500).map(|i| format!("mistake-{i}: 1\n")).collect();
    let diagnostics = load(&keys).err().map(|all| all.0).unwrap_or_default();
    assert_eq!(diagnostics.len(), 100);
    let help = diagnostics[99].help.as_deref().unwrap_or_default();
    assert_eq!(help, "403 more problems follow; these come first");
}

#[test]
fn a_file_that_is_too_large_is_not_even_parsed() {
    let text = format!("{GOOD}# {}", "[".repeat(1024 * 1024));
    let rendered = rendered(&text);
    assert!(rendered.starts_with("topology.yaml:1:1: the file has "), "{rendered}");
    assert!(rendered.contains("at most 1048576 are read"), "{rendered}");
    let nodes: String = (0..1_001).map(|i| format!("  n{i}: {{ type: dedupe, from: valid }}\n")).collect();
    let text = changed("\nsinks:", &format!("{nodes}\nsinks:"));
    assert_eq!(rendered_first(&text), "`processors` has 1008 entries; at most 1000 are read");
    let many = format!("application: [{}]", "x,".repeat(200_000));
    assert_eq!(rendered_first(&many), "the file has more values, or deeper ones, than any topology");
}

fn rendered_first(text: &str) -> String {
    load(text).err().map(|all| all.0[0].message.clone()).unwrap_or_default()
}
