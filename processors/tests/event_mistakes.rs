//! The messages of `tally check` about declared event types, CEL, and the nodes that pass events on.

use tally_processors::REGISTRY;
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Diagnostic, Topology};

const GOOD: &str = "\
application: test
events:
  read:    { properties: { depth: int, section: text, utm: text?, price: decimal(2)? } }
  comment: { properties: { length: int }, anonymous: false }
topics:
  user-actions: { key: actor_id, value: event, partitions: 4 }
  deep-reads:   { key: actor_id, value: event }
  counters:     { key: subject_id, value: counters }
  verdicts:     { key: actor_id, value: verdict }
processors:
  valid:  { type: decode, from: user-actions }
  deep:   { type: filter, from: valid, events: [read], where: properties.depth > 50, to: deep-reads, fields: [actor_id, properties] }
  tagged: { type: derive, from: deep, set: { campaign: 'has(properties.utm) ? properties.utm : null', twice: properties.depth * 2 } }
  split:  { type: route, from: tagged, routes: { web: properties.section == 'web', rest: true } }
  web:    { type: count, from: split.web, event: read, where: properties.twice > 2 }
  notes:  { type: count, from: valid, event: comment, where: properties.length > 2 }
  totals: { type: total, from: [web, notes], to: counters }
";

fn load(text: &str) -> Vec<Diagnostic> {
    Topology::load("t.yaml", text, REGISTRY, SINK_TYPES).err().map(|all| all.0).unwrap_or_default()
}

/// Everything that is wrong, each as the word under the caret, the message and the help.
fn mistakes(from: &str, to: &str) -> Vec<String> {
    assert_eq!(GOOD.matches(from).count(), 1, "`{from}` is not there once");
    let text = GOOD.replace(from, to);
    let line = |at: &Diagnostic| {
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        let word: String = line.chars().skip(at.column - 1).take(at.caret_length).collect();
        let help = at.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{word}: {}{help}", at.message)
    };
    load(&text).iter().map(line).collect()
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(load(GOOD), []);
}

#[test]
fn every_mistake_is_named_where_it_stands() {
    const HAS: &str = "test for it: `has(properties.utm) && …`, or `has(properties.utm) ? … : …`";
    let cases: &[(&str, &str, &[&str])] = &[
        // Declarations.
        (
            "depth: int",
            "depth: integer",
            &["integer: `properties.depth`: unknown type `integer` (did you mean `int`?)"],
        ),
        (
            "depth: int",
            "depth: string?",
            &["string?: `properties.depth`: unknown type `string?` (did you mean `text`?)"],
        ),
        (
            "decimal(2)?",
            "decimal(10)?",
            &["decimal(10)?: `properties.price`: unknown type `decimal(10)?` (did you mean `decimal(2)`?)"],
        ),
        (
            "anonymous: false",
            "anonymous: maybe",
            &["maybe: `anonymous`: expected true or false, found the string `maybe`"],
        ),
        ("anonymous: false", "anonymos: false", &["anonymos: unknown key `anonymos` (did you mean `anonymous`?)"]),
        (
            "  comment: {",
            "  Comment: {",
            &[
                "Comment: event type `Comment`: the name of an event type must be a lower-case letter, then up to 31 of `a-z0-9_`",
            ],
        ),
        (
            "  comment: {",
            "  coment: {",
            &["coment: no node takes events of the type `coment` (did you mean `comment`?)"],
        ),
        (
            "{ properties: { length: int }, anonymous: false }",
            "[length]",
            &["[: event type `comment` must be a mapping, but this is a list"],
        ),
        // Names and types in CEL.
        (
            "properties.depth > 50",
            "properties.dpeth > 50",
            &["dpeth: `where`: unknown property `dpeth` of `read` (did you mean `depth`?)"],
        ),
        (
            "properties.depth > 50",
            "\"properties.depth > '50'\"",
            &[">: `where`: `>` compares int with text (a number has no quotes; `int(…)` makes one of a text)"],
        ),
        (
            "properties.depth > 50",
            "properties.utm == 'x'",
            &[&format!("utm: `where`: an event may lack the property `utm` ({HAS})")],
        ),
        (
            "properties.depth > 50",
            "properties.depth",
            &["properties.depth: `where`: must give true or false, but gives int"],
        ),
        (
            "properties.depth > 50",
            "depth > 50",
            &[
                "depth: `where`: unknown name `depth` (known names: event_id, type, actor_id, subject_id, occurred_at, ip, user_agent, duration_ms, properties)",
            ],
        ),
        (
            "properties.depth > 50",
            "properties.depth >",
            &[
                ",: `where`: does not compile: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
            ],
        ),
        (
            "properties.depth > 50",
            "hours(occurred_at) > 5",
            &["hours: `where`: unknown function `hours` (did you mean `hour`?)"],
        ),
        ("properties.depth > 50", "hour(properties.section) > 5", &[".: `where`: `hour` takes int, not text"]),
        ("properties.depth > 50", "properties.section.matches('(')", &["'(': `where`: `(`: unclosed group"]),
        (
            "properties.length > 2",
            "properties.depth > 2",
            &["depth: `where`: unknown property `depth` of `comment` (known properties: length)"],
        ),
        (
            "properties.twice > 2",
            "properties.campaign == 'x'",
            &[
                "campaign: `where`: an event may lack the property `campaign` (test for it: `has(properties.campaign) && …`, or `has(properties.campaign) ? … : …`)",
            ],
        ),
        (
            "properties.twice > 2",
            "properties.twice == 'x'",
            &["==: `where`: `==` compares int with text (a number has no quotes; `int(…)` makes one of a text)"],
        ),
        // filter
        (
            "events: [read]",
            "events: [raed]",
            &["read: `event`: events of the type `read` do not reach this node (its inputs pass on: raed)"],
        ),
        ("events: [read]", "events: []", &["[: `events`: needs at least one event type, or is left out for all"]),
        (
            "events: [read]",
            "events: [read, Read]",
            &["Read: `events[1]`: must be a lower-case letter, then up to 31 of `a-z0-9_`"],
        ),
        (
            "fields: [actor_id, properties]",
            "fields: [actor, properties]",
            &[
                "actor: `fields[0]`: unknown field `actor` (known fields: event_id, type, actor_id, subject_id, occurred_at, ip, user_agent, duration_ms, properties)",
            ],
        ),
        ("fields: [actor_id, properties]", "fields: [actor_id, actor_id]", &["actor_id: `fields[1]`: is named twice"]),
        (
            "from: split.web, event: read",
            "from: split.web, event: comment",
            &["comment: `event`: events of the type `comment` do not reach this node (its inputs pass on: read)"],
        ),
        // derive
        ("twice: properties.depth * 2", "twice: properties.depth * 'x'", &["*: `set.twice`: `*` takes no text"]),
        (
            "twice: properties.depth * 2",
            "twice: '[1]'",
            &["'[1]': `set.twice`: must give a text, a number, true or false, but gives a list"],
        ),
        (
            "twice: properties.depth * 2",
            "type: \"'x'\"",
            &[
                "\"'x'\": `set.type`: `type` is a field of the event (`set` sets properties and `subject_id`; the other fields of an event stay)",
            ],
        ),
        (
            "twice: properties.depth * 2",
            "a-b: '1'",
            &["'1': `set.a-b`: the name of a property is a letter, then up to 63 letters, digits and `_`"],
        ),
        (
            "twice: properties.depth * 2",
            "twice: '1', subject_id: properties.section",
            &[
                "properties.section: `set.subject_id`: the kind of the subject must be a literal (begin with a literal: `'campaign:' + id(properties.campaign)`)",
            ],
        ),
        (
            "twice: properties.depth * 2",
            "twice: '1', subject_id: \"'c:' + properties.depth\"",
            &["+: `set.subject_id`: `+` takes no text and int (`string(…)` makes a text of a number)"],
        ),
        (
            "set: { campaign: 'has(properties.utm) ? properties.utm : null', twice: properties.depth * 2 }",
            "set: {}",
            &["{: `set`: needs 1 to 16 entries"],
        ),
        // route and named outputs
        (
            "rest: true }",
            "rest: false }",
            &["false: `routes.rest`: a route that is `false` takes no event: leave it out"],
        ),
        (
            "rest: true }",
            "rest: true, last: true }",
            &["true: `routes.last`: no event gets here: `rest` takes the rest"],
        ),
        (
            "rest: true }",
            "Rest: true }",
            &["true: `routes.Rest`: the name of an output is a lower case letter, then up to 63 of `a-z 0-9 _ -`"],
        ),
        (
            "routes: { web: properties.section == 'web', rest: true }",
            "routes: {}",
            &["{: `routes`: needs 1 to 32 entries"],
        ),
        ("from: split.web", "from: split.wbe", &["split.wbe: unknown input `split.wbe` (did you mean `split.web`?)"]),
        (
            "from: split.web",
            "from: split",
            &[
                "split: node `web` takes `event`, but `split` gives `verdict` (nodes that give `event`: valid, deep, tagged, split.web, split.rest)",
            ],
        ),
        (
            "from: [web, notes]",
            "from: [web, split.rest]",
            &[
                "split.rest: node `totals` takes `change`, but `split.rest` gives `event` (nodes that give `change`: web, notes)",
            ],
        ),
        (
            "from: tagged, routes",
            "from: split.rest, routes",
            &["split.rest: node `split` reads itself (records flow one way only)"],
        ),
        (
            "from: deep, set",
            "from: split.rest, set",
            &[
                "split.rest: nodes read each other in a circle: `tagged` reads `split` reads `tagged` (records flow one way only)",
            ],
        ),
        (
            "rest: true } }",
            "rest: true }, to: deep-reads }",
            &[
                "deep-reads: topic `deep-reads` holds `event`, but node `split` gives `verdict` (topics for what it gives: verdicts)",
            ],
        ),
        // Topics of events.
        (
            "deep-reads:   { key: actor_id,",
            "deep-reads:   { key: subject_id,",
            &[
                "deep-reads: topic `deep-reads` holds `event` that nodes write, whose key is `actor_id` (`key: actor_id`)",
            ],
        ),
        (
            "deep-reads:   { key: actor_id, value: event }",
            "deep-reads:   { key: actor_id, value: event, partitions: 2 }",
            &[
                "2: topic `deep-reads` has 2 partitions, but subtopology `user-actions`, which writes it, reads 4: progress is kept per partition (`partitions: 4`)",
            ],
        ),
        (
            "deep-reads:   {",
            "split.web:    {",
            &[
                "split.web: a topic cannot be named `split.web`: that is an output of node `split`",
                "deep-reads: unknown topic `deep-reads` (known topics: user-actions, split.web, counters, verdicts)",
            ],
        ),
        // What would have no effect.
        (
            "from: [web, notes]",
            "from: [web]",
            &[
                "notes: no node reads `notes`, and it writes no topic: it has no effect (name it in `from` of a node that takes `change`: totals)",
            ],
        ),
        (
            "event: comment, where",
            "event: comment, windows: [1h], where",
            &[
                "totals: node `totals`: the windows of `notes` would go nowhere: no topic of `counter` is written (name one in `to`, such as `counter-windows`, or remove `windows` from `notes`)",
            ],
        ),
        // Types of events in conditions.
        (
            "where: properties.depth > 50",
            "where: \"type == 'raed' && properties.depth > 50\"",
            &["'raed': `where`: no event of the type `raed` comes here (did you mean `read`?)"],
        ),
        (
            "where: properties.depth > 50",
            "where: \"type in ['raed'] || properties.depth > 50\"",
            &["'raed': `where`: no event of the type `raed` comes here (did you mean `read`?)"],
        ),
        // The decimals of a declared property.
        (
            "  totals: { type: total, from: [web, notes]",
            "  sums:   { type: aggregate, from: valid, events: [read], values: { paid: { sum: properties.price, scale: 1 } } }\n  totals: { type: total, from: [web, notes, sums]",
            &["{: `values.paid`: `price` is declared with 2 decimals, and the value has 1 (`scale: 2`)"],
        ),
    ];
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(from, to, expected)| mistakes(from, to) != *expected)
        .map(|(from, to, expected)| format!("{to}\n  expected {expected:#?}\n  found {:#?}", mistakes(from, to)))
        .collect();
    assert!(wrong.is_empty(), "{from} of {of} cases:\n{}", wrong.join("\n"), from = wrong.len(), of = cases.len());
}

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
        assert_eq!(mistakes(from, to), [""; 0], "{to}");
    }
    let both = GOOD
        .replace("where: properties.depth > 50", "where: has(properties.utm) && properties.depth > 50")
        .replace("'has(properties.utm) ? properties.utm : null'", "properties.utm");
    assert_eq!(load(&both), []);
    let without = GOOD.replace("'has(properties.utm) ? properties.utm : null'", "properties.utm");
    assert!(load(&without)[0].message.contains("an event may lack the property `utm`"));
}

#[test]
fn a_position_is_named_only_where_the_file_has_the_expression_as_it_reads() {
    let found = mistakes("properties.depth > 50", "'properties.section == ''x'' && properties.dpeth > 50'");
    assert!(found[0].starts_with("'properties.section"), "{found:?}");
}
