//! `excess: hold`: of several clicks of a user on a subject within a window, the first count and the last stays.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PER: i64 = 5_000;

fn with(from: &str, to: &str) -> Topology<Actions> {
    assert!(SHIPPED_TOPOLOGY.contains(from), "{from}");
    Topology::load("t", &SHIPPED_TOPOLOGY.replace(from, to), REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

/// All verdicts on events, in order.
fn said(driver: &mut TopologyTestDriver<Actions>) -> Vec<String> {
    verdicts(driver).into_iter().map(|(id, verdict)| format!("{id} {verdict}")).collect()
}

fn likes(driver: &mut TopologyTestDriver<Actions>) -> Value {
    counters(driver, "article:7")["likes"].clone()
}

#[test]
fn the_last_click_counts_when_the_window_is_over_and_before_the_record_that_ends_it() {
    let mut driver = driver();
    let click = |driver: &mut TopologyTestDriver<Actions>, id: &str, kind: &str, append: i64| {
        pipe(driver, event(id, kind, "u1", "article:7", NOW_MS + append), NOW_MS + append);
    };
    click(&mut driver, "e0", "like", 0);
    assert_eq!(likes(&mut driver), 1);
    click(&mut driver, "e1", "unlike", 10);
    click(&mut driver, "e2", "like", 20);
    click(&mut driver, "e3", "unlike", 30);
    assert_eq!(said(&mut driver), ["e1 held", "e1 limited", "e2 held", "e2 limited", "e3 held"]);
    assert_eq!((likes(&mut driver), driver.read("reactions").len()), (Value::Null, 1));
    driver.advance_clock(NOW_MS + PER - 1).unwrap();
    assert!(said(&mut driver).is_empty());
    // A like at the very end of the window comes after what was held until then.
    click(&mut driver, "e4", "like", PER);
    assert_eq!(said(&mut driver), ["e3 released"]);
    let reactions: Vec<_> = driver.read("reactions").iter().map(Written::json).collect();
    let told: Vec<_> =
        reactions.iter().map(|r| (r["active"] == true, r["occurred_at_ms"].as_i64().unwrap() - NOW_MS)).collect();
    assert_eq!(told, [(false, 30), (true, PER)]);
    assert_eq!(reactions[0]["appended_at_ms"], NOW_MS + 30, "when the log took it");
    assert_eq!(likes(&mut driver), Value::Null, "within a commit one less and one more are nothing");
}

#[test]
fn an_older_click_gives_way_and_of_equal_ones_the_later_stays() {
    let mut driver = driver();
    for (id, occurred) in [("e0", 0), ("e1", 3), ("e2", 2), ("e3", 3)] {
        pipe(
            &mut driver,
            event(id, if id == "e3" { "unlike" } else { "like" }, "u1", "article:7", NOW_MS + occurred),
            NOW_MS + 10,
        );
    }
    assert_eq!(said(&mut driver), ["e1 held", "e2 limited", "e1 limited", "e3 held"]);
    assert_eq!(likes(&mut driver), 1);
    // Without a record, too.
    driver.advance_clock(NOW_MS + PER).unwrap();
    assert_eq!((likes(&mut driver), said(&mut driver)), (json!(0), vec!["e3 released".to_owned()]));
}

#[test]
fn what_is_held_was_new_and_in_time_when_it_came() {
    let mut driver = driver();
    let day = 24 * HOUR;
    pipe(&mut driver, event("e0", "like", "u1", "article:7", NOW_MS), NOW_MS + day);
    pipe(&mut driver, event("e1", "unlike", "u1", "article:7", NOW_MS), NOW_MS + day);
    pipe(&mut driver, event("e1", "unlike", "u1", "article:7", NOW_MS), NOW_MS + day);
    assert_eq!(said(&mut driver), ["e1 held", "e1 duplicate"], "a repeat of what is held is one");
    driver.advance_clock(NOW_MS + day + PER).unwrap();
    assert_eq!(said(&mut driver), ["e1 released"], "late only if asked again");
    assert_eq!(likes(&mut driver), 0);
}

#[test]
fn what_another_rule_drops_is_not_held_and_what_is_held_counts_towards_no_rule() {
    let mut driver = driver();
    for i in 0..59 {
        pipe(&mut driver, event(&format!("v{i}"), "view", "u1", "article:7", NOW_MS), NOW_MS);
    }
    pipe(&mut driver, event("e0", "like", "u1", "article:7", NOW_MS), NOW_MS);
    pipe(&mut driver, event("e1", "unlike", "u1", "article:7", NOW_MS), NOW_MS);
    assert_eq!(said(&mut driver), ["e1 limited"], "sixty have passed");
    pipe(&mut driver, event("f0", "like", "u2", "article:7", NOW_MS), NOW_MS);
    pipe(&mut driver, event("f1", "unlike", "u2", "article:7", NOW_MS), NOW_MS);
    for i in 0..60 {
        pipe(&mut driver, event(&format!("w{i}"), "view", "u2", "article:7", NOW_MS), NOW_MS);
    }
    assert_eq!(said(&mut driver), ["f1 held", "w59 limited"]);
    driver.advance_clock(NOW_MS + PER).unwrap();
    assert_eq!(said(&mut driver), ["f1 released"]);
}

#[test]
fn an_event_that_is_rejected_on_release_is_a_dead_letter() {
    let toggle = "counts: [\n                { metric: followers";
    let text = SHIPPED_TOPOLOGY.replace("'user:' + actor_id", "'follower-of-somebody:' + actor_id");
    let text = text.replace("events: [like, unlike], max: 1", "events: [follow, unfollow], max: 1");
    assert!(text.contains(toggle));
    let topology = Topology::load("t", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"));
    let mut driver = TopologyTestDriver::new(topology);
    let actor = "x".repeat(120);
    let follow = |id: &str| event(id, "follow", &actor, "user:u2", NOW_MS).to_string().into_bytes();
    let partition = tally_streams::log::partition_of(actor.as_bytes(), 8);
    for id in ["e0", "e1"] {
        driver.pipe_to(partition, Some(actor.as_bytes()), &follow(id), &[("b", &[7; 16])], NOW_MS).unwrap();
    }
    driver.advance_clock(NOW_MS + PER).unwrap();
    assert_eq!(said(&mut driver), ["e0 dead", "e1 held", "e1 released", "e1 dead"]);
    let letter = driver.read("dead-letters").remove(1);
    assert_eq!(
        serde_json::from_slice::<Value>(&letter.value).unwrap(),
        event("e1", "follow", &actor, "user:u2", NOW_MS)
    );
    let headers: Vec<_> = letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(
        headers[1..],
        [
            ("node", b"follows".as_slice()),
            ("topic", b"user-actions"),
            ("partition", partition.to_string().as_bytes()),
            ("offset", b"1"),
            ("detail", format!("`follower-of-somebody:{actor}`").as_bytes()),
            ("b", &[7; 16]),
        ]
    );
}

#[test]
fn rules_that_cannot_hold_say_why() {
    let rule = "by: [actor_id, subject_id], events: [like, unlike]";
    for (to, message) in [
        (
            "by: [actor_id], events: [like, unlike]",
            "`rules[1].by`: needs `actor_id` and `subject_id` with `excess: hold`",
        ),
        (
            "by: [actor_id, subject_id], events: [like, view]",
            "`view` is counted by `views` and `visitors`: only the events of one toggle",
        ),
        ("by: [actor_id, subject_id], events: [like, share]", "`share` is no event of a toggle: every one counts"),
        (
            "by: [actor_id, subject_id], events: [like, follow]",
            "`follow` is of toggle `follows`, the ones before are of `likes`",
        ),
    ] {
        let text = SHIPPED_TOPOLOGY.replace(rule, to);
        let errors = Topology::load("t", &text, REGISTRY, SINK_TYPES).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(errors.contains(message), "{to}: {errors}");
    }
    // What aggregates and what passes events on takes those that are released.
    let totals = "  totals:   { type: total,  from: [likes,";
    let others = format!(
        "  clicks:   {{ type: aggregate, from: checked, events: [like, unlike], values: {{ n: count }} }}\n  \
         some:     {{ type: filter, from: checked, events: [like], where: \"duration_ms == null\" }}\n  \
         all:      {{ type: aggregate, from: some, values: {{ n: count }} }}\n{totals} clicks, all,"
    );
    let text = SHIPPED_TOPOLOGY.replace(totals, &others);
    assert_ne!(text, SHIPPED_TOPOLOGY);
    assert_eq!(Topology::load("t", &text, REGISTRY, SINK_TYPES).err().map(|error| error.to_string()), None);
    let twice = "name: again, by: [actor_id, subject_id, type], events: [unlike, follow], max: 2, per: 1m, excess: hold }, { name: toggle,";
    let errors = Topology::load("t", &SHIPPED_TOPOLOGY.replace("name: toggle,", twice), REGISTRY, SINK_TYPES)
        .err()
        .map(|e| e.to_string());
    assert!(errors.unwrap_or_default().contains("`rules[2].events`: `unlike` is held by an earlier rule already"));
}

#[test]
fn a_rule_that_holds_is_new_state() {
    use tally_streams::topology::Difference;
    let holding = with("per: 10s", "per: 10s").fingerprint();
    let dropping = with("excess: hold", "excess: drop").fingerprint();
    let name = "store `checked-held` of subtopology `user-actions`";
    let accept = format!("{name} is new: accept it with `--accept-added`; it starts empty");
    assert_eq!(holding.compare(&dropping), Difference::Added(vec![accept]));
    let Difference::Changed(gone) = dropping.compare(&holding) else { panic!("what is held would be lost") };
    assert!(gone[0].starts_with(&format!("{name} is gone: revert it")), "{gone:?}");
}

/// A click: milliseconds since the one before, how old it is, actor, subject, on or off.
type Click = (i64, i64, u8, u8, bool);

#[derive(Clone, Debug)]
enum Step {
    Click(Click),
    Commit,
    Rollback,
}

fn step() -> impl Strategy<Value = Step> {
    let click = (0..900i64, prop_oneof![Just(0i64), 0..3_000i64], 0..2u8, 0..2u8, any::<bool>());
    prop_oneof![12 => click.prop_map(Step::Click), 2 => Just(Step::Commit), 1 => Just(Step::Rollback)]
}

/// The rule in its plainest form.
#[derive(Default)]
struct Plain {
    max: u32,
    per: i64,
    grace: i64,
    passed: BTreeMap<(u8, u8, i64), u32>,
    /// When it is due, whose: its time, on or off, its number.
    held: BTreeMap<(i64, u8, u8), (i64, bool, usize)>,
    switches: BTreeMap<(u8, u8), (i64, bool)>,
    limited: Vec<usize>,
}

impl Plain {
    fn pass_time(&mut self, clock: i64) {
        while let Some(entry) = self.held.first_entry().filter(|entry| entry.key().0 <= clock) {
            let ((_, actor, subject), (time, on, _)) = entry.remove_entry();
            self.switch(actor, subject, time, on);
        }
    }

    fn switch(&mut self, actor: u8, subject: u8, time: i64, on: bool) {
        let switch = self.switches.entry((actor, subject)).or_insert((i64::MIN, false));
        if time >= switch.0 {
            *switch = (time, on);
        }
    }

    fn click(&mut self, number: usize, append: i64, (_, age, actor, subject, on): Click) {
        self.pass_time(append);
        let time = append - age;
        let window = time.max(append - self.grace).div_euclid(self.per);
        let passed = self.passed.entry((actor, subject, window)).or_default();
        if *passed < self.max {
            *passed += 1;
            return self.switch(actor, subject, time, on);
        }
        let key = ((window + 1) * self.per + self.grace, actor, subject);
        match self.held.get(&key) {
            Some((held, ..)) if *held > time => self.limited.push(number),
            _ => self.limited.extend(self.held.insert(key, (time, on, number)).map(|(.., number)| number)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn it_is_what_the_plainest_model_of_it_says_whatever_was_taken_back(
        steps in prop::collection::vec(step(), 1..90),
        max in 1..3u32,
        per in 1..4i64,
        grace in prop_oneof![Just(0i64), Just(700), Just(2_500)],
    ) {
        let rule = format!("max: {max}, per: {per}s, grace: {grace}ms, excess: hold");
        let mut driver = TopologyTestDriver::new(with("max: 1, per: 5s, excess: hold", &rule));
        driver.hold();
        let mut plain = Plain { max, per: per * 1_000, grace, ..Plain::default() };
        let (mut append, mut number) = (NOW_MS, 0);
        // The state that remains, and the state that a rollback undoes.
        let (mut verdicts_seen, mut reactions) = (BTreeMap::new(), BTreeMap::new());
        let mut open: Vec<(usize, i64, Click)> = Vec::new();
        let send = |driver: &mut TopologyTestDriver<Actions>, (number, append, click): (usize, i64, Click)| {
            let (_, age, actor, subject, on) = click;
            let (actor, subject) = (format!("u{actor}"), format!("a:{subject}"));
            pipe(driver, event(&format!("{number}"), if on { "like" } else { "unlike" }, &actor, &subject, append - age), append);
        };
        let mut take = |driver: &mut TopologyTestDriver<Actions>| {
            for (id, verdict) in verdicts(driver) {
                verdicts_seen.insert(id.parse::<usize>().unwrap(), verdict);
            }
            for reaction in driver.read("reactions").iter().map(Written::json) {
                let key = (reaction["actor_id"].to_string(), reaction["subject_id"].to_string());
                reactions.insert(key, reaction["active"] == true);
            }
            (verdicts_seen.clone(), reactions.clone())
        };
        for step in steps {
            match step {
                Step::Click(click) => {
                    append += click.0;
                    plain.click(number, append, click);
                    open.push((number, append, click));
                    send(&mut driver, (number, append, click));
                    number += 1;
                }
                Step::Commit => {
                    driver.commit().unwrap();
                    take(&mut driver);
                    open.clear();
                }
                Step::Rollback => {
                    driver.rollback();
                    ["verdicts", "reactions"].into_iter().for_each(|topic| drop(driver.read(topic)));
                    open.iter().for_each(|click| send(&mut driver, *click));
                }
            }
        }
        driver.commit().unwrap();
        let of_kind = |verdicts: &BTreeMap<usize, String>, kind: &str| -> Vec<usize> {
            verdicts.iter().filter(|(_, verdict)| *verdict == kind).map(|(number, _)| *number).collect()
        };
        // The clock of each actor's partition stands at a click: advance it to the last click.
        driver.advance_clock(append).unwrap();
        plain.pass_time(append);
        let (seen, _) = take(&mut driver);
        let mut held: Vec<_> = plain.held.values().map(|(.., number)| *number).collect();
        held.sort_unstable();
        prop_assert_eq!(of_kind(&seen, "held"), held);
        driver.advance_clock(append + 60_000).unwrap();
        plain.pass_time(append + 60_000);
        let (seen, reactions) = take(&mut driver);
        plain.limited.sort_unstable();
        prop_assert_eq!(of_kind(&seen, "limited"), plain.limited);
        prop_assert_eq!(of_kind(&seen, "held"), Vec::<usize>::new());
        for ((actor, subject), (_, on)) in plain.switches {
            let key = (format!("\"u{actor}\""), format!("\"a:{subject}\""));
            prop_assert_eq!(reactions.get(&key).copied().unwrap_or_default(), on, "{:?}", key);
        }
    }
}
