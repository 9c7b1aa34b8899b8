//! The messages of `tally check` about invalid boards.

use tally_processors::REGISTRY;
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Difference, Topology};
use tally_testkit::SHIPPED_TOPOLOGY;

/// Everything that is wrong, each as the word under the caret, the message and the help.
fn mistakes(from: &str, to: &str) -> Vec<(String, String, String)> {
    assert_eq!(SHIPPED_TOPOLOGY.matches(from).count(), 1, "`{from}` is not there once");
    let text = SHIPPED_TOPOLOGY.replace(from, to);
    let all = Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).err().map(|all| all.0).unwrap_or_default();
    let word = |at: &tally_streams::topology::Diagnostic| {
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        line.chars().skip(at.column - 1).take(at.caret_length).collect()
    };
    all.iter().map(|one| (word(one), one.message.clone(), one.help.clone().unwrap_or_default())).collect()
}

#[test]
fn every_mistake_is_named_where_it_stands() {
    let score = "score: { likes: 4, collects: 6, reads: 2, views: 0.1 }";
    let cases = [
        (
            score,
            "score: { likes: 4, collects: 6, reeds: 2, views: 0.1 }",
            "2",
            "`score.reeds`: no node in `from` counts `reeds`",
            "did you mean `reads`?",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2, views: 0.1, shares: 1 }",
            "1",
            "`score.shares`: no node in `from` counts `shares`",
            "`shares` does: `from: […, shares]`",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2 }",
            "hot",
            "node `hot`: reads `views`, and `score` has nothing that it counts",
            "give it a weight, or take it out of `from`",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2, views: 0.0001 }",
            "0.0001",
            "`score.views`: must have at most three decimals",
            "",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2, views: 0 }",
            "0",
            "`score.views`: must not be 0: it counts nothing",
            "",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2, views: 1000000.001 }",
            "1000000.001",
            "`score.views`: must be from -1000000 to 1000000",
            "",
        ),
        (
            score,
            "score: { likes: 4, collects: 6, reads: 2, views: -1.0e16 }",
            "-1.0e16",
            "`score.views`: must be from -1000000 to 1000000",
            "",
        ),
        (
            "score: { likes: 1 }",
            "score: { likes: -1 }",
            "{",
            "`score`: needs a weight above 0: otherwise this board stays empty",
            "",
        ),
        (
            "half_life: 6h, ",
            "",
            "hot",
            "node `hot`: needs `half_life` or `window`",
            "`half_life: 6h` halves scores every 6 hours, `window: 24h` counts the last 24",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, window: 24h",
            "24h",
            "`window`: cannot be combined with `half_life`",
            "keep one of them",
        ),
        ("half_life: 6h", "half_life: 90s", "90s", "`half_life`: must be whole minutes, from 1m to 31d", ""),
        (
            "half_life: 6h",
            "half_life: 6h, bucket: 5m",
            "5m",
            "`bucket`: goes with `window`; a half-life needs none",
            "",
        ),
        ("half_life: 6h", "half-life: 6h", "half-life", "unknown key `half-life`", "did you mean `half_life`?"),
        (
            "window: 24h, bucket: 5m",
            "window: 24h, bucket: 7m",
            "7m",
            "`bucket`: 7m, the bucket, must divide the window of 1440m",
            "`bucket: 1m` divides every window",
        ),
        (
            "window: 24h, bucket: 5m",
            "window: 12m",
            "12m",
            "`window`: 5m, the bucket, must divide the window of 12m",
            "`bucket: 1m` divides every window",
        ),
        (
            "window: 24h, bucket: 5m",
            "window: 31d",
            "31d",
            "`window`: makes 8928 buckets, and at most 2016 are kept",
            "a larger `bucket`, or a shorter `window` and `baseline`",
        ),
        ("half_life: 6h", "half_life: 6h, min_actors: 0", "0", "`min_actors`: must be from 1 to 256", ""),
        ("half_life: 6h", "half_life: 6h, min_actors: 257", "257", "`min_actors`: must be from 1 to 256", ""),
        (
            "half_life: 6h",
            "half_life: 6h, baseline: 24h",
            "24h",
            "`baseline`: goes with `window`, which is held against it",
            "`window: 1h, baseline: 24h`",
        ),
        (
            "window: 24h, bucket: 5m",
            "window: 24h, bucket: 5m, baseline: 7m",
            "7m",
            "`baseline`: must be whole buckets of 5m",
            "`bucket: 1m` divides every baseline",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, group: properties.section",
            "properties.section",
            "`group`: needs `groups`, the values that have a board",
            "`group: properties.section, groups: [sports, news]`",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, groups: [sports]",
            "[",
            "`groups`: needs `group`, the property that has these values",
            "`group: properties.section, groups: [sports, news]`",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, group: section, groups: [sports]",
            "section",
            "`group`: must be `properties.` and a name of up to 64 of `A-Za-z0-9._-`",
            "`group: properties.section, groups: [sports, news]`",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, group: properties.section, groups: [sports, a@b]",
            "a@b",
            "`groups[1]`: must be 1 to 64 of `A-Za-z0-9._-`",
            "",
        ),
        (
            "half_life: 6h",
            "half_life: 6h, group: properties.section, groups: [sports, sports]",
            "sports",
            "`groups[1]`: is named twice",
            "",
        ),
        (
            "half_life: 6h, top: 100",
            "half_life: 6h, top: 1000, group: properties.section, groups: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t]",
            "[",
            "`groups`: makes 21000 places with `top: 1000`, and at most 20000 are kept",
            "a shorter `top`, or fewer `groups`",
        ),
        ("half_life: 6h, top: 100", "half_life: 6h, top: 1001", "1001", "`top`: must be from 1 to 1000", ""),
        (
            "kinds: [article], score: { likes: 4",
            "kinds: [Article], score: { likes: 4",
            "Article",
            "`kinds[0]`: must be a lower-case letter, then up to 31 of `a-z0-9_-`",
            "",
        ),
        (
            "kinds: [article], score: { likes: 4",
            "kinds: [], score: { likes: 4",
            "[",
            "`kinds`: needs at least one kind",
            "without `kinds` all are taken",
        ),
        (
            "value: ranking,  partitions: 1",
            "value: ranking,  partitions: 8",
            "8",
            "topic `rankings` has 8 partitions, but subtopology `by-board`, which writes it, reads 1: progress is kept per partition",
            "`partitions: 1`",
        ),
        (
            "half_life: 6h, top: 100, to: rankings",
            "half_life: 6h, top: 100, to: counters",
            "counters",
            "topic `counters` holds `counters`, but node `hot` gives `ranking`",
            "topics for what it gives: rankings",
        ),
    ];
    for (from, to, word, message, help) in cases {
        let expected = (word.to_owned(), message.to_owned(), help.to_owned());
        assert_eq!(mistakes(from, to), [expected], "{to}");
    }
}

#[test]
fn distinct_actors_have_no_weight_and_a_metric_has_one_node() {
    let with = |from: &str, score: &str| {
        let old = "from: [likes, collects, reads, views], kinds: [article], score: { likes: 4, collects: 6, reads: 2, views: 0.1 }";
        mistakes(old, &format!("from: {from}, score: {score}"))
    };
    let expected = "`score.visitors`: `visitors` counts distinct actors; a board adds up changes";
    assert_eq!(with("[likes, visitors]", "{ likes: 4, visitors: 1 }")[0].1, expected);
    assert_eq!(with("follows", "{ followers: 1, following: 0.5 }"), []);
    assert_eq!(with("follows", "{ followers: 1 }"), []);
}

#[test]
fn what_a_node_counts_is_grouped_by_one_property() {
    let other = |property: &str| {
        let to = format!(
            "half_life: 6h, group: properties.section, groups: [a], top: 100, to: rankings }}
  hotter: {{ type: board, from: [likes], score: {{ likes: 1 }}, half_life: 1h, group: {property}, groups: [b], to: rankings }}"
        );
        mistakes("half_life: 6h, top: 100, to: rankings }", &to)
    };
    assert_eq!(other("properties.section"), []);
    let mistakes = other("properties.lang");
    let messages: Vec<_> = mistakes.iter().map(|(word, message, _)| (word.as_str(), message.as_str())).collect();
    let of_hot = ("properties.section", "`group`: `hotter` groups `likes` by `properties.lang`");
    assert_eq!(messages, [of_hot, ("properties.lang", "`group`: `hot` groups `likes` by `properties.section`")]);
    assert_eq!(mistakes[0].2, "what is counted remembers one group: take the same property, or another metric");
}

#[test]
fn what_the_state_was_made_with_stays() {
    let print = |params: &str| {
        let text = SHIPPED_TOPOLOGY.replace("half_life: 6h, top: 100", params);
        Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}")).fingerprint()
    };
    let is_refused = |from: &str, to: &str| match print(from).compare(&print(to)) {
        Difference::Same => false,
        Difference::Changed(_) => true,
        other => panic!("{from} to {to}: {other:?}"),
    };
    let group = "half_life: 6h, group: properties.section, groups: [sports]";
    for (from, to, expected) in [
        ("half_life: 6h, top: 100", "half_life: 6h, top: 9", false),
        (group, "half_life: 6h, group: properties.section, groups: [news, sports]", false),
        ("half_life: 6h", "half_life: 5h", true),
        ("half_life: 6h", "half_life: 6h, min_actors: 2", true),
        ("half_life: 6h, min_actors: 2", "half_life: 6h, min_actors: 3", true),
        ("half_life: 6h", group, true),
        (group, "half_life: 6h, group: properties.lang, groups: [sports]", true),
        ("window: 1h", "window: 1h, baseline: 2h", true),
    ] {
        assert_eq!((is_refused(from, to), is_refused(to, from)), (expected, expected), "{from} to {to}");
    }
}
