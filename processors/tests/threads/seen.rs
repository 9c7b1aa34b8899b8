//! The outputs of a run, as far as runs can be compared.

use std::collections::BTreeMap;

/// What a reader of the outputs sees in the end: the newest value of each key, and all verdicts. Boards depend on when
/// the end is.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub counters: BTreeMap<String, BTreeMap<String, i64>>,
    pub windows: BTreeMap<String, i64>,
    pub reactions: BTreeMap<String, bool>,
    pub boards: BTreeMap<String, Vec<(String, i64)>>,
    pub verdicts: BTreeMap<(u64, u64), String>,
    pub dead: usize,
}

impl Seen {
    pub fn of(mut read: impl FnMut(&str) -> Vec<(Vec<u8>, serde_json::Value)>) -> Self {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut seen = Self {
            counters: BTreeMap::new(),
            windows: BTreeMap::new(),
            reactions: BTreeMap::new(),
            boards: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            dead: 0,
        };
        for (_, record) in read("counters") {
            let values = record["counters"].as_object().unwrap().iter();
            let values = values.filter(|(_, v)| **v != 0).map(|(k, v)| (k.clone(), v.as_i64().unwrap()));
            seen.counters.insert(text(&record["subject_id"]), values.collect());
        }
        for (key, record) in read("counter-windows") {
            seen.windows.insert(String::from_utf8(key).unwrap(), record["value"].as_i64().unwrap());
        }
        for (key, record) in read("reactions") {
            seen.reactions.insert(String::from_utf8(key).unwrap(), record["active"].as_bool().unwrap());
        }
        for (_, record) in read("rankings") {
            let item = |item: &serde_json::Value| (text(&item["subject_id"]), item["score"].as_i64().unwrap());
            let items = record["items"].as_array().unwrap().iter().map(item).collect();
            let before = seen.boards.insert(text(&record["board"]), items);
            assert_ne!(before.as_ref(), seen.boards.get(&text(&record["board"])), "a board that has not changed");
        }
        for (_, record) in read("verdicts") {
            let place = (record["partition"].as_u64().unwrap(), record["offset"].as_u64().unwrap());
            let before = seen.verdicts.insert(place, text(&record["verdict"]));
            let held = before.as_deref() == Some("held");
            assert!(held || before.is_none(), "two verdicts on {place:?}");
            // What is held is released or limited, and nothing else is.
            assert_eq!(held, record["verdict"] == "released" || held && record["verdict"] == "limited", "{place:?}");
        }
        seen.dead = read("dead-letters").len();
        seen
    }
}
