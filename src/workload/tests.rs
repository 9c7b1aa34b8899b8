use super::*;
use std::collections::{HashMap, HashSet};
use tally_model::{Event, EventFields, UnknownFields};
use xxhash_rust::xxh3::xxh3_64;

const END_MS: i64 = 1_795_248_000_000;

fn lines(plan: &Plan) -> Vec<(LineKind, Vec<u8>)> {
    let mut lines = Vec::new();
    let Ok(()) = plan.for_each(|kind, line| {
        lines.push((kind, line.to_vec()));
        Ok::<_, std::convert::Infallible>(())
    });
    lines
}

fn event(line: &[u8]) -> Result<Event, tally_model::EventError> {
    let fields = EventFields::parse(line, UnknownFields::Refuse)?;
    fields.check(END_MS)?;
    Event::from_fields(&fields, END_MS)
}

#[test]
fn the_first_thousand_lines_are_what_they_have_always_been() {
    let mut file = Vec::new();
    Plan::full(1_000, 42, END_MS).write(&mut file).unwrap();
    assert_eq!(xxh3_64(&file), 11_590_632_287_647_327_557, "{}", String::from_utf8_lossy(&file[..400]));
}

#[test]
fn another_seed_or_time_gives_other_lines_and_other_ids() {
    let ids = |plan: Plan| -> HashSet<String> {
        let events = lines(&plan).into_iter().filter(|(kind, _)| *kind == LineKind::Event);
        events.map(|(_, line)| event(&line).unwrap().event_id().into()).collect()
    };
    let first = ids(Plan::full(500, 1, END_MS));
    assert!(first.is_disjoint(&ids(Plan::full(500, 2, END_MS))));
    assert!(first.is_disjoint(&ids(Plan::full(500, 1, END_MS - 1))));
    assert_eq!(first, ids(Plan::full(500, 1, END_MS)));
}

#[test]
fn a_line_is_what_its_kind_says() {
    let (mut ids, mut told) = (HashSet::new(), HashSet::new());
    for (kind, line) in lines(&Plan::full(100_000, 7, END_MS)) {
        let text = String::from_utf8_lossy(&line).into_owned();
        assert!(!line.contains(&b'\n'));
        match kind {
            LineKind::Event => {
                let event = event(&line).unwrap_or_else(|e| panic!("{text}: {e}"));
                assert!(["view", "read", "like", "unlike"].contains(&event.event_type()), "{text}");
                assert!(ids.insert(event.event_id().to_owned()), "{text}");
                told.insert(line);
            }
            LineKind::Repeat => assert!(told.contains(&line), "{text}"),
            // The only mistake that needs a topology.
            LineKind::Garbage if text.contains(r#""type":"clap""#) => {}
            LineKind::Garbage => assert!(event(&line).is_err(), "{text}"),
        }
    }
}

#[test]
fn every_kind_of_garbage_is_invalid() {
    for kind in 0..KINDS {
        let mut line = Vec::new();
        write_garbage(&mut line, kind, "id", &mut Random::new(1), END_MS).unwrap();
        let unknown_type = kind == 7;
        assert_eq!(event(&line).is_ok(), unknown_type, "{kind}: {}", String::from_utf8_lossy(&line));
    }
}

#[test]
fn shares_are_those_of_the_issue() {
    let plan = Plan::full(300_000, 11, END_MS);
    let mut counts: HashMap<String, f64> = HashMap::new();
    let mut place = 0;
    for (i, (kind, line)) in lines(&plan).into_iter().enumerate() {
        let mut count = |what: &str| *counts.entry(what.to_owned()).or_default() += 1.0 / 3_000.0;
        count(&format!("{kind:?}"));
        let Ok(event) = event(&line) else { continue };
        count(event.event_type());
        if &*event.subject_id == "article:1" {
            count("hot");
        }
        if event.actor_id().starts_with("bot") {
            count("bots");
        }
        let in_order_ms = END_MS - 2_000 - (299_999 - i as i64) / 10;
        let off_ms = event.occurred_at_ms - in_order_ms;
        assert!(event.occurred_at_ms <= END_MS);
        match off_ms {
            _ if kind != LineKind::Event => {}
            -2_000..=2_000 => place += 1,
            -600_000..-2_000 => count("back"),
            ..-86_400_000 => count("late"),
            _ => panic!("{off_ms}"),
        }
    }
    for (what, percent, tolerance) in [
        ("Repeat", 1.5, 0.1),
        ("Garbage", 0.2, 0.03),
        ("view", 55.0, 0.6),
        ("read", 20.0, 0.4),
        ("like", 20.0, 0.4),
        ("unlike", 5.0, 0.3),
        ("hot", 10.0, 0.3),
        ("bots", 5.0, 0.3),
        ("back", 0.5, 0.05),
        ("late", 0.1, 0.03),
    ] {
        let found = counts[what];
        assert!((found - percent).abs() < tolerance, "{what}: {found} %, not {percent} %");
    }
    assert!(place > 280_000, "{place}");
}
