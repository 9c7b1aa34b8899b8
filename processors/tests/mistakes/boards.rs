//! Boards.

use crate::{changed, fingerprint, messages, mistakes};
use tally_streams::topology::Difference;
use tally_testkit::SHIPPED_TOPOLOGY;

#[test]
fn distinct_actors_have_no_weight_and_a_metric_has_one_node() {
    let with = |from: &str, score: &str| {
        let old = "from: [likes, collects, reads, views], kinds: [article], score: { likes: 4, collects: 6, reads: 2, views: 0.1 }";
        messages(&changed(SHIPPED_TOPOLOGY, old, &format!("from: {from}, score: {score}")))
    };
    let expected = "1: `score.visitors`: `visitors` counts distinct actors; a board adds up changes";
    assert_eq!(with("[likes, visitors]", "{ likes: 4, visitors: 1 }")[0], expected);
    assert_eq!(with("follows", "{ followers: 1, following: 0.5 }"), [""; 0]);
    assert_eq!(with("follows", "{ followers: 1 }"), [""; 0]);
}

#[test]
fn what_a_node_counts_is_grouped_by_one_property() {
    let other = |property: &str| {
        let to = format!(
            "half_life: 6h, group: properties.section, groups: [a], top: 100, to: rankings }}
  hotter: {{ type: board, from: [likes], score: {{ likes: 1 }}, half_life: 1h, group: {property}, groups: [b], to: rankings }}"
        );
        mistakes(&changed(SHIPPED_TOPOLOGY, "half_life: 6h, top: 100, to: rankings }", &to)).0
    };
    assert_eq!(other("properties.section"), []);
    let mistakes = other("properties.lang");
    let messages: Vec<_> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
    let of_hot = "`group`: `hotter` groups `likes` by `properties.lang`";
    assert_eq!(messages, [of_hot, "`group`: `hot` groups `likes` by `properties.section`"]);
    let help = "what is counted remembers one group: take the same property, or another metric";
    assert_eq!(mistakes[0].help.as_deref(), Some(help));
}

#[test]
fn what_the_state_was_made_with_stays() {
    let print = |params: &str| fingerprint(&SHIPPED_TOPOLOGY.replace("half_life: 6h, top: 100", params));
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
