//! The shipped boards, with shorter times, against the plainest model of them: whatever order and batches the events came in,
//! whatever was rolled back, the last record of a board is the board at that moment.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::testkit::TopologyTestDriver;
use tally_streams::topology::Topology;
use tally_testkit::boards::{Change, Changes, Forgets, Rules};
use tally_testkit::{MINUTE_MS, NOW_MS, SHIPPED_TOPOLOGY};

const LATE_AFTER: i64 = 5 * MINUTE_MS;

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "`{from}` is not there");
    text.replace(from, to)
}

/// Without the rule that holds clicks back: boards are about what counts, whenever it does.
fn load(text: &str) -> Topology<Actions> {
    let text = changed(text, "max: 1, per: 5s", "max: 1000000, per: 5s");
    Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

fn short_times() -> String {
    let text = changed(SHIPPED_TOPOLOGY, "late_after: 24h", "late_after: 5m");
    let text = changed(&text, "half_life: 6h", "half_life: 3m");
    let text = changed(&text, "window: 24h, bucket: 5m", "window: 8m, bucket: 2m");
    let text = changed(&text, "top: 100", "top: 3");
    let more = "
  busy:   { type: board, from: [likes, views], kinds: [article], score: { likes: 1, views: 0.5 }, window: 6m, bucket: 2m, min_actors: 3, top: 3, to: rankings }
  fed:    { type: board, from: [likes, reads], kinds: [article], score: { likes: 1, reads: 0.25 }, half_life: 2m, min_actors: 2, group: properties.section, groups: [a, b], top: 2, to: rankings }
  rising: { type: board, from: [likes, views], kinds: [article], score: { likes: 1, views: 1 }, window: 4m, bucket: 2m, baseline: 6m, top: 4, to: rankings }

sinks:";
    let text = changed(&text, "\nsinks:", more);
    changed(&text, "max: 60,", "max: 1000000,")
}

/// An action of an actor.
#[derive(Clone, Debug)]
struct Deed {
    kind: &'static str,
    actor: u8,
    subject: &'static str,
    /// When it happened, from its append time; mostly before.
    lag_ms: i64,
    duration_ms: i64,
    section: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Step {
    Deed(Deed),
    Pass(i64),
    Commit,
    /// The open transaction is taken back, and what was in it comes again.
    Again,
    Compare,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec!["like", "like", "like", "unlike", "unlike", "view", "read", "share"]);
    let subject =
        prop::sample::select(vec!["article:1", "article:2", "article:3", "article:4", "article:b", "video:1"]);
    let lag = prop_oneof![4 => 0..5_000i64, 2 => 0..7 * MINUTE_MS, 1 => -MINUTE_MS..0];
    let section = prop::sample::select(vec![None, Some("a"), Some("a"), Some("b"), Some("c")]);
    let deed = (kind, 0..12u8, subject, lag, prop::sample::select(vec![100, 6_000]), section);
    let deed = deed.prop_map(|(kind, actor, subject, lag_ms, duration_ms, section)| Deed {
        kind,
        actor,
        subject,
        lag_ms,
        duration_ms,
        section,
    });
    let pass =
        prop_oneof![10 => 0..20_000i64, 4 => 0..3 * MINUTE_MS, 1 => 0..20 * MINUTE_MS, 1 => Just(300 * MINUTE_MS)];
    prop_oneof![
        20 => deed.prop_map(Step::Deed),
        6 => pass.prop_map(Step::Pass),
        3 => Just(Step::Commit),
        1 => Just(Step::Again),
        2 => Just(Step::Compare),
    ]
}

/// Whether it is active, its greatest time, and time and section of the last switching on.
type Like = (bool, i64, i64, Option<&'static str>);

/// What was done, and what follows from it.
#[derive(Default)]
struct Naive {
    /// By actor and subject.
    likes: HashMap<(u8, &'static str), Like>,
    changes: Changes,
}

impl Naive {
    fn take(&mut self, deed: &Deed, append_ms: i64) {
        let time = (append_ms - deed.lag_ms).min(append_ms);
        if append_ms - time > LATE_AFTER {
            return;
        }
        let (metric, since, section, delta) = match deed.kind {
            "view" => ("views", time, deed.section, 1),
            "read" if deed.duration_ms >= 5_000 => ("reads", time, deed.section, 1),
            "like" | "unlike" => {
                let (active, greatest, since, section) =
                    self.likes.entry((deed.actor, deed.subject)).or_insert((false, time, time, None));
                let on = deed.kind == "like";
                if time < *greatest {
                    return;
                }
                *greatest = time;
                if on == *active {
                    return;
                }
                *active = on;
                if on {
                    (*since, *section) = (time, deed.section);
                }
                ("likes", *since, *section, if on { 1 } else { -1 })
            }
            _ => return,
        };
        let (subject, actor, group) = (deed.subject.to_owned(), deed.actor.to_string(), section.map(str::to_owned));
        self.changes.add(&Change { subject, metric, minute: since.div_euclid(MINUTE_MS), delta, actor, group });
    }
}

/// The boards of [`short_times`].
fn rules() -> Vec<Rules> {
    let busy = Rules::new("busy", &[("likes", 1_000), ("views", 500)], Forgets::Window { minutes: 6, bucket: 2 }, 3);
    let fed = Rules::new("fed", &[("likes", 1_000), ("reads", 250)], Forgets::HalfLife(2), 2);
    let rising = Forgets::Trend { minutes: 4, bucket: 2, baseline: 6 };
    vec![
        Rules::new("hot", &[("likes", 4_000), ("reads", 2_000), ("views", 100)], Forgets::HalfLife(3), 3),
        Rules::new("liked-1d", &[("likes", 1_000)], Forgets::Window { minutes: 8, bucket: 2 }, 3),
        busy.min_actors(3),
        fed.clone().min_actors(2),
        fed.of_group("a").min_actors(2),
        fed.of_group("b").min_actors(2),
        Rules::new("rising", &[("likes", 1_000), ("views", 1_000)], rising, 4),
    ]
}

struct World {
    driver: TopologyTestDriver<Actions>,
    naive: Naive,
    now_ms: i64,
    sent: usize,
    /// Actor, event and append time of what is not committed.
    open: Vec<(String, String, i64)>,
    boards: HashMap<String, Vec<(String, i64)>>,
}

impl World {
    fn new(text: &str) -> Self {
        let mut driver = TopologyTestDriver::new(load(text));
        driver.hold();
        let (naive, open, boards) = Default::default();
        Self { driver, naive, now_ms: NOW_MS, sent: 0, open, boards }
    }

    fn deed(&mut self, deed: &Deed) {
        let actor = format!("u{}", deed.actor);
        let event = json!({
            "event_id": format!("e{}", self.sent), "type": deed.kind, "actor_id": actor, "subject_id": deed.subject,
            "occurred_at": self.now_ms - deed.lag_ms, "duration_ms": deed.duration_ms,
            "properties": deed.section.map(|section| json!({"section": section})).unwrap_or_else(|| json!({})),
        });
        self.sent += 1;
        self.driver.pipe(&actor, event.to_string().as_bytes(), self.now_ms).unwrap();
        self.open.push((actor, event.to_string(), self.now_ms));
        self.naive.take(deed, self.now_ms);
    }

    fn commit(&mut self) {
        self.driver.commit().unwrap();
        self.open.clear();
    }

    fn again(&mut self) {
        self.driver.rollback();
        for (actor, event, append_ms) in &self.open {
            self.driver.pipe(actor, event.as_bytes(), *append_ms).unwrap();
        }
    }

    /// The board as of now, once the clocks of all tasks have reached now.
    fn board(&mut self, name: &str) -> Vec<(String, i64)> {
        self.now_ms += 1;
        self.driver.advance_clock(self.now_ms).unwrap();
        self.open.clear();
        for record in self.driver.read("rankings") {
            let ranking = record.json();
            let item =
                |item: &Value| (item["subject_id"].as_str().unwrap().to_owned(), item["score"].as_i64().unwrap());
            let items: Vec<_> = ranking["items"].as_array().unwrap().iter().map(item).collect();
            let board = ranking["board"].as_str().unwrap().to_owned();
            assert_eq!(record.key, board.as_bytes());
            let before = self.boards.insert(board, items.clone());
            assert_ne!(before.unwrap_or_default(), items, "a record that says nothing new");
        }
        self.boards.get(name).cloned().unwrap_or_default()
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        for rules in rules() {
            let board = self.board(&rules.board);
            let right = self.naive.changes.board(&rules, self.now_ms);
            prop_assert_eq!(board, right, "{} at {}", &rules.board, self.now_ms);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_last_record_is_the_board_as_of_the_clock(steps in prop::collection::vec(step(), 0..250)) {
        let mut world = World::new(&short_times());
        for step in &steps {
            match step {
                Step::Deed(deed) => world.deed(deed),
                Step::Pass(ms) => world.now_ms += ms,
                Step::Commit => world.commit(),
                Step::Again => world.again(),
                Step::Compare => world.compare()?,
            }
        }
        world.compare()?;
        // Whatever was on a board leaves it.
        world.now_ms += 300 * MINUTE_MS;
        world.compare()?;
        for rules in rules() {
            prop_assert!(world.board(&rules.board).is_empty());
        }
    }
}

fn like(actor: u8, subject: &'static str) -> Deed {
    Deed { kind: "like", actor, subject, lag_ms: 0, duration_ms: 0, section: None }
}

fn items(items: &[(&str, i64)]) -> Vec<(String, i64)> {
    items.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect()
}

#[test]
fn equal_scores_are_in_the_order_of_ids_across_partitions() {
    let mut world = World::new(&short_times());
    for (actor, subject) in [(1, "article:b"), (2, "article:4"), (3, "article:2"), (4, "article:3"), (5, "video:1")] {
        world.deed(&like(actor, subject));
    }
    assert_eq!(world.board("liked-1d"), items(&[("article:2", 1_000), ("article:3", 1_000), ("article:4", 1_000)]));
}

#[test]
fn a_like_counts_its_weight_and_half_of_it_one_half_life_later() {
    let mut world = World::new(SHIPPED_TOPOLOGY);
    // The beginning of an epoch.
    world.now_ms = NOW_MS - NOW_MS % (6 * 60 * MINUTE_MS);
    let start = world.now_ms;
    world.deed(&like(1, "article:1"));
    assert_eq!(world.board("hot"), items(&[("article:1", 4_000)]));
    world.now_ms += 3 * 60 * MINUTE_MS;
    world.deed(&like(1, "article:2"));
    assert_eq!(world.board("hot"), items(&[("article:2", 5_656), ("article:1", 4_000)]));
    world.now_ms = start + 6 * 60 * MINUTE_MS;
    assert_eq!(world.board("hot"), items(&[("article:2", 2_828), ("article:1", 2_000)]));
    // 12 halvings leave nothing of 4.
    world.now_ms = start + 12 * 6 * 60 * MINUTE_MS;
    assert_eq!(world.board("hot"), items(&[("article:2", 1)]));
    world.now_ms = start + 13 * 6 * 60 * MINUTE_MS;
    assert_eq!(world.board("hot"), []);
}

#[test]
fn who_leaves_makes_room_for_the_next() {
    let mut world = World::new(&changed(&short_times(), "top: 3", "top: 1"));
    world.deed(&like(1, "article:1"));
    world.deed(&like(2, "article:1"));
    world.deed(&like(3, "article:2"));
    assert_eq!(world.board("liked-1d"), items(&[("article:1", 2_000)]));
    for actor in [1, 2] {
        world.now_ms += 1;
        world.deed(&Deed { kind: "unlike", ..like(actor, "article:1") });
    }
    assert_eq!(world.board("liked-1d"), items(&[("article:2", 1_000)]));
    world.now_ms += 1;
    world.deed(&Deed { kind: "unlike", ..like(3, "article:2") });
    assert_eq!(world.board("liked-1d"), []);
}

#[test]
fn a_thousand_places_are_filled_from_all_partitions() {
    let mut world = World::new(&changed(SHIPPED_TOPOLOGY, "top: 100", "top: 1000"));
    for i in 0..1_100u32 {
        let subject: &'static str = format!("article:{i:04}").leak();
        (0..1 + u8::from(i % 2 == 0)).for_each(|actor| world.deed(&like(actor, subject)));
        world.now_ms += 400;
    }
    let board = world.board("liked-1d");
    let mut expected: Vec<_> =
        (0..1_100).map(|i| (format!("article:{i:04}"), 1_000 + 1_000 * i64::from(i % 2 == 0))).collect();
    expected.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    expected.truncate(1_000);
    assert_eq!(board, expected);
}

#[test]
fn what_is_taken_back_leaves_its_group_and_who_acted_stays() {
    let mut world = World::new(&short_times());
    let of = |actor, section| Deed { section: Some(section), ..like(actor, "article:1") };
    world.deed(&of(1, "a"));
    world.deed(&of(2, "a"));
    world.deed(&of(3, "b"));
    assert_eq!(world.board("fed"), items(&[("article:1", 3_000)]));
    assert_eq!((world.board("fed@a"), world.board("fed@b")), (items(&[("article:1", 2_000)]), vec![]));
    // It names another section than the like that it undoes.
    world.deed(&Deed { kind: "unlike", ..of(2, "b") });
    assert_eq!(
        (world.board("fed"), world.board("fed@a")),
        (items(&[("article:1", 2_000)]), items(&[("article:1", 1_000)]))
    );
    world.deed(&of(4, "b"));
    assert_eq!(world.board("fed@b"), items(&[("article:1", 2_000)]));
}
