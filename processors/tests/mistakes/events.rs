//! Expressions over declared event types.

use crate::{EVENTS, changed, messages, mistakes};

#[test]
fn a_test_of_a_property_holds_for_what_follows() {
    for (from, to) in [
        // `type in […]`.
        ("where: properties.depth > 50", "where: \"type in ['read'] && properties.depth > 50\""),
        // The condition of a filter, in the nodes behind it.
        ("where: properties.depth > 50", "where: properties.depth > 50 && has(properties.utm)"),
        ("has(properties.utm) ? properties.utm : null", "properties.section"),
        // The condition of a node, in its other expressions.
        (
            "  totals: { type: total, from: [web, notes]",
            "  sums:   { type: aggregate, from: valid, events: [read], where: has(properties.utm), subject: \"'utm:' + properties.utm\", \
             values: { n: count, most: { max: size(properties.utm) } } }\n  totals: { type: total, from: [web, notes, sums]",
        ),
    ] {
        assert_eq!(messages(&changed(EVENTS, from, to)), [""; 0], "{to}");
    }
    let both = EVENTS
        .replace("where: properties.depth > 50", "where: has(properties.utm) && properties.depth > 50")
        .replace("'has(properties.utm) ? properties.utm : null'", "properties.utm");
    assert_eq!(messages(&both), [""; 0]);
    let without = EVENTS.replace("'has(properties.utm) ? properties.utm : null'", "properties.utm");
    assert!(messages(&without)[0].contains("an event may lack the property `utm`"));
}

#[test]
fn a_position_is_named_only_where_the_file_has_the_expression_as_it_reads() {
    let found = messages(&changed(
        EVENTS,
        "properties.depth > 50",
        "\"properties.section == '\\u0078' && properties.dpeth > 50\"",
    ));
    assert!(found[0].starts_with("\"properties.section"), "{found:?}");
    let found =
        messages(&changed(EVENTS, "properties.depth > 50", "'properties.section == ''x'' && properties.dpeth > 50'"));
    assert!(found[0].starts_with("dpeth: "), "{found:?}");
}

#[test]
fn a_mistake_is_found_in_an_expression_of_any_form() {
    for (written, place, line) in [
        ("where: properties.depth > 50 &&,", (12, 85), None),
        ("where: \"properties.section == \\\"a\\\" &&\",", (12, 92), None),
        ("where: 'properties.section == ''a'' &&',", (12, 92), None),
        ("where: properties.depth > 50\n             && ,", (13, 14), Some("             && , to:")),
    ] {
        let text = EVENTS.replace("where: properties.depth > 50,", written);
        let found = mistakes(&text).0;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, found[0].column, found[0].caret_length), (place.0, place.1, 2), "{written}");
        assert!(line.is_none_or(|line| found[0].source_line.starts_with(line)), "{:?}", found[0]);
    }
    let block = "  deep:\n    type: filter\n    from: valid\n    events: [read]\n    where: |\n      properties.depth > 50\n        &&\n    to: deep-reads\n    fields: [actor_id, properties]\n";
    let of_line = EVENTS.lines().find(|line| line.contains("  deep: ")).unwrap();
    let found = mistakes(&EVENTS.replace(&format!("{of_line}\n"), block)).0;
    assert_eq!((found[0].line, found[0].column, found.len()), (18, 9, 1), "{found:?}");
}
