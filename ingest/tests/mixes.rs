//! Any mix of valid and invalid events: exactly the valid ones are appended, in order, and the others are named.

mod fixture;

use fixture::{Bed, request};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Element {
    Valid { actor: String, padding: String },
    Invalid(Value),
}

fn element() -> impl Strategy<Value = Element> {
    let valid = ("[a-z\"\\\\é]{1,8}", "[ -~é]{0,20}").prop_map(|(actor, padding)| Element::Valid { actor, padding });
    let field = prop_oneof![Just("actor_id"), Just("subject_id"), Just("type"), Just("occurred_at"), Just("nonsense")];
    let wrong = prop_oneof![
        Just(json!("{")),
        Just(json!("], [")),
        Just(json!([1, {"a": "\"]"}])),
        Just(json!({})),
        Just(json!(-1.5))
    ];
    let spoilt = (field, wrong.clone()).prop_map(|(field, wrong)| {
        let mut event = event(0, "u", "");
        event[field] = wrong;
        Element::Invalid(event)
    });
    prop_oneof![3 => valid, 1 => spoilt, 1 => wrong.prop_map(Element::Invalid)]
}

fn event(at: usize, actor: &str, padding: &str) -> Value {
    json!({"event_id": format!("e{at}"), "type": "like", "actor_id": actor, "subject_id": "article:7",
        "occurred_at": fixture::NOW_MS, "properties": {"padding": padding}})
}

proptest! {
    #[test]
    fn exactly_the_valid_ones_are_taken(elements in prop::collection::vec(element(), 1..30), as_lines: bool, pretty: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bed = Bed::new();
            let values: Vec<_> = elements.iter().enumerate().map(|(at, element)| match element {
                Element::Valid { actor, padding } => event(at, actor, padding),
                Element::Invalid(value) => value.clone(),
            }).collect();
            let (media, body) = match (as_lines, pretty) {
                (true, _) => ("application/x-ndjson", values.iter().map(|v| format!("{v}\n")).collect()),
                (false, true) => ("application/json", serde_json::to_string_pretty(&values).unwrap()),
                (false, false) => ("application/json", serde_json::to_string(&values).unwrap()),
            };
            let answer = bed.send(request(media, body)).await;

            let is_valid = |at: &usize| matches!(elements[*at], Element::Valid { .. });
            let (valid, invalid): (Vec<usize>, Vec<usize>) = (0..elements.len()).partition(is_valid);
            assert_eq!(answer.status, if valid.is_empty() { 422 } else { 202 });
            let rejected = answer.body["rejected"].as_array().unwrap();
            let indexes: Vec<_> = rejected.iter().map(|entry| entry["index"].as_u64().unwrap() as usize).collect();
            assert_eq!(indexes, invalid);
            let taken = bed.values();
            assert_eq!(taken.len(), valid.len());
            for (mut value, at) in taken.into_iter().zip(valid) {
                value.as_object_mut().unwrap().remove("ip");
                assert_eq!(&value, &values[at]);
            }
        });
    }
}
