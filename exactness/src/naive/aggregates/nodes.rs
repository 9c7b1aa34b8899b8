//! The aggregates of `topology.yaml` beside this file, written down once more: change both together.

use super::super::Event;
use super::values::{Datum, Function, number};
use super::windows::Window;

/// A node.
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// `events` and `where`.
    pub takes: fn(&Event) -> bool,
    /// `subject`.
    pub subjects: fn(&Event) -> Vec<String>,
    /// `values`: name, function and argument.
    pub values: &'static [(&'static str, Function, Argument)],
    /// `windows`.
    pub windows: &'static [Window],
    /// `grace`, in milliseconds.
    pub grace_ms: i64,
    /// `emit`.
    pub on_close: bool,
    /// `totals`.
    pub totals: bool,
}

/// An argument of a value.
#[derive(Clone, Copy)]
pub enum Argument {
    /// That of `count`.
    Nothing,
    /// A property that is a number, with at most so many decimals.
    Number(&'static str, u32),
    /// A property that is a text.
    Text(&'static str),
    /// `duration_ms`.
    Duration,
    /// `actor_id`.
    Actor,
}

impl Argument {
    /// None where the event takes no part; an error where it is a dead letter.
    pub fn of(self, event: &Event) -> Result<Option<Datum>, ()> {
        Ok(match self {
            Self::Nothing => None,
            Self::Number(name, decimals) => match event.properties.get(name) {
                Some(raw) => Some(Datum::Number(number(raw.get(), decimals).ok_or(())?)),
                None => None,
            },
            Self::Text(name) => event.text(name).map(Datum::Text),
            Self::Duration => event.duration_ms.map(|ms| Datum::Number(i128::from(ms) * super::values::ONE)),
            Self::Actor => Some(Datum::Text(event.actor_id.clone())),
        })
    }
}

const PRICE: Argument = Argument::Number("price", 2);
const POINTS: Argument = Argument::Number("points", 0);
const NOTE: Argument = Argument::Text("note");

const OF_CAMPAIGNS: &[(&str, Function, Argument)] = &[
    ("n", Function::Count, Argument::Nothing),
    ("sum", Function::Sum, PRICE),
    ("least", Function::Min, PRICE),
    ("most", Function::Max, PRICE),
    ("first", Function::First, NOTE),
    ("last", Function::Last, PRICE),
    ("mean", Function::Average { decimals: 5 }, PRICE),
    ("who", Function::Distinct, Argument::Actor),
    ("low", Function::Quantile { percent: 10 }, POINTS),
    ("long", Function::Quantile { percent: 90 }, Argument::Duration),
];

const OF_VISITORS: &[(&str, Function, Argument)] = &[
    ("n", Function::Count, Argument::Nothing),
    ("sum", Function::Sum, PRICE),
    ("least", Function::Min, POINTS),
    ("first", Function::First, PRICE),
    ("last", Function::Last, NOTE),
    ("who", Function::Distinct, Argument::Actor),
    ("high", Function::Quantile { percent: 75 }, POINTS),
];

const OF_MOMENTS: &[(&str, Function, Argument)] = &[
    ("n", Function::Count, Argument::Nothing),
    ("sum", Function::Sum, POINTS),
    ("first", Function::First, POINTS),
    ("most", Function::Max, POINTS),
    ("mean", Function::Average { decimals: 3 }, POINTS),
];

const OF_KINDS: &[(&str, Function, Argument)] =
    &[("n", Function::Count, Argument::Nothing), ("who", Function::Distinct, Argument::Actor)];

const FIXED: &[Window] = &[Window::Fixed { size: 5_000, every: 5_000 }, Window::Fixed { size: 6_000, every: 2_000 }];
const SESSIONS: &[Window] = &[Window::Session { gap: 2_000, max: 16_000 }];
const SLIDING: &[Window] = &[Window::Sliding { size: 1_500 }];

fn is_read(event: &Event) -> bool {
    matches!(event.kind.as_str(), "view" | "read")
}

fn has_campaign(event: &Event) -> bool {
    is_read(event) && event.properties.contains_key("campaign")
}

fn has_visitor(event: &Event) -> bool {
    is_read(event) && event.properties.contains_key("visitor")
}

fn is_rare(event: &Event) -> bool {
    let points = event.properties.get("points").and_then(|raw| raw.get().parse::<i64>().ok());
    has_visitor(event) && points.is_some_and(|points| points >= 200)
}

fn campaign(event: &Event) -> Vec<String> {
    event.text("campaign").map(|campaign| format!("campaign:{}", id(&campaign))).into_iter().collect()
}

fn visitor(event: &Event) -> Vec<String> {
    event.text("visitor").map(|visitor| format!("visitor:{visitor}")).into_iter().collect()
}

fn kinds(event: &Event) -> Vec<String> {
    vec![format!("type:{}", event.kind), "type:any".to_owned()]
}

/// `id()` of short texts.
fn id(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let escaped = |c: char| match c {
        '{' | '}' | '%' => true,
        c => c.is_whitespace() || c.is_control(),
    };
    let mut id = String::new();
    for c in text.chars() {
        match escaped(c) {
            true => c.to_string().bytes().for_each(|byte| id += &format!("%{byte:02X}")),
            false => id.push(c),
        }
    }
    id
}

/// All nodes.
pub const NODES: [Node; 7] = [
    Node {
        name: "spend",
        takes: has_campaign,
        subjects: campaign,
        values: OF_CAMPAIGNS,
        windows: FIXED,
        grace_ms: 4_000,
        on_close: false,
        totals: true,
    },
    Node {
        name: "closed",
        takes: has_campaign,
        subjects: campaign,
        values: OF_CAMPAIGNS,
        windows: FIXED,
        grace_ms: 4_000,
        on_close: true,
        totals: false,
    },
    Node {
        name: "visits",
        takes: has_visitor,
        subjects: visitor,
        values: OF_VISITORS,
        windows: SESSIONS,
        grace_ms: 3_000,
        on_close: false,
        totals: true,
    },
    Node {
        name: "stays",
        takes: has_visitor,
        subjects: visitor,
        values: OF_VISITORS,
        windows: SESSIONS,
        grace_ms: 3_000,
        on_close: true,
        totals: false,
    },
    Node {
        name: "near",
        takes: is_rare,
        subjects: visitor,
        values: OF_MOMENTS,
        windows: SLIDING,
        grace_ms: 2_000,
        on_close: false,
        totals: false,
    },
    Node {
        name: "past",
        takes: is_rare,
        subjects: visitor,
        values: OF_MOMENTS,
        windows: SLIDING,
        grace_ms: 2_000,
        on_close: true,
        totals: true,
    },
    Node {
        name: "kinds",
        takes: |_| true,
        subjects: kinds,
        values: OF_KINDS,
        windows: &[Window::Fixed { size: 4_000, every: 4_000 }],
        grace_ms: 6_000,
        on_close: true,
        totals: true,
    },
];

/// From this long after the last event on, every window is closed.
pub const CLOSED_AFTER_MS: i64 = 12_000;
