//! `type: rate_check`: rules that limit the events per key and fixed window.
//!
//! An event's window is chosen by the later of its effective time and (append time - `grace`): with the default grace
//! of 0, a forged time cannot evade a rule. The first `max` of a window in log order pass.
//!
//! The rest get the verdict `limited` (`excess: drop`). Or all but one (`excess: hold`): the one with the greatest
//! effective time, of equal ones the later in the log, is held until no later event can fall into the window, and is
//! then forwarded. So a user's last click decides.
//!
//! An event counts towards its rules only if all of them let it pass immediately.

mod held;

use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::event_types::EventTypes;
use crate::facts::NodeFacts;
use crate::item::{Action, Item};
use crate::params::{code, one_of, params};
use held::{Held, HeldEvents};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tally_model::{Event, VerdictKind, source_of};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};
use tally_streams::store::{Hash128, StoreHandle, WindowStore};
use tally_streams::topology::{Blueprint, BuildSite, ConfigDuration, NodeType, ParamError, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "rate_check",
    about: "limits events per key and window",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Event.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: RateCheckParams::specs,
    parse,
};

const MINUTE_MS: i64 = 60_000;
/// As in the ingest API.
const IPV6_PREFIX_BITS: u8 = 64;

/// How many passed, by rule, key and window.
type Passed = WindowStore<Hash128, u32, MINUTE_MS>;

params! {
    /// Parameters of `type: rate_check`.
    pub struct RateCheckParams {
        /// Rules, checked in this order. At least one.
        #[param("list of rules", each = Rule)]
        pub rules: Vec<Rule>,
    }
}

params! {
    /// One rule.
    pub struct Rule {
        /// Name of the rule, unique in the node. Verdicts name it; under a new name a rule starts with empty windows.
        #[param("string")]
        pub name: String,
        /// Fields of the key: events with equal values share a limit. At least one. The rule does not apply to events that
        /// lack one of them.
        #[param(
            format!("list of {}", one_of([KeyField::ActorId, KeyField::SubjectId, KeyField::Ip, KeyField::Type]))
        )]
        pub by: Vec<KeyField>,
        /// Types of the events that the rule limits: at least one, each counted by some node.
        #[param("list of event types")]
        pub events: Vec<String>,
        /// Events that pass per key and window.
        #[param("number", limits = format!("From 1 to {}.", u32::MAX))]
        pub max: u32,
        /// Length of the window. From 1s to 24h.
        #[param("duration")]
        pub per: ConfigDuration,
        /// Treatment of the events beyond `max`. `drop`: they get the verdict `limited`, with the name of the rule. `hold`:
        /// the last of them is counted when the window ends, the others get `limited`.
        #[param(one_of([Excess::Drop, Excess::Hold]), default = code(Excess::default()))]
        #[serde(default)]
        pub excess: Excess,
        /// Age on arrival up to which an event counts in the window of its own time. At most `late_after`.
        #[param("duration", default = "`0s`")]
        pub grace: Option<ConfigDuration>,
        /// IPv6 addresses that share this many leading bits count as one address. Only with `ip` in `by`.
        #[param(
            "number",
            default = code(IPV6_PREFIX_BITS),
            limits = "From 1 to 128, the whole address."
        )]
        pub ipv6_prefix: Option<u8>,
    }
}

/// A field that a rule counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyField {
    /// The actor.
    ActorId,
    /// The subject.
    SubjectId,
    /// The address.
    Ip,
    /// The type of the event.
    Type,
}

/// What happens to events over the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// They are not counted.
    #[default]
    Drop,
    /// The last of them is counted when the window ends. For the events of toggles.
    Hold,
}

impl KeyField {
    fn of(self, event: &Event, ipv6_prefix_bits: u8) -> Option<Cow<'_, str>> {
        match self {
            Self::ActorId => Some(Cow::Borrowed(event.actor_id())),
            Self::SubjectId => Some(Cow::Borrowed(&event.subject_id)),
            Self::Ip => event.ip().map(|ip| source_of(ip, ipv6_prefix_bits)),
            Self::Type => Some(Cow::Borrowed(event.event_type())),
        }
    }
}

/// A checked `rate_check` node.
pub struct RateCheck {
    node: String,
    rules: Vec<Rule>,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let RateCheckParams { rules } = params.parse()?;
    let mut errors = Vec::new();
    if rules.is_empty() {
        errors.push(ParamError::new("rules", "needs at least one rule"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let mut wrong =
            |field: &str, message: &str| errors.push(ParamError::new(format!("rules[{i}].{field}"), message));
        if rules[..i].iter().any(|earlier| earlier.name == rule.name) {
            wrong("name", "is the name of an earlier rule too");
        }
        if rule.by.is_empty() {
            wrong("by", "needs at least one field");
        }
        if rule.events.is_empty() {
            wrong("events", "needs at least one type of event");
        }
        if rule.max == 0 {
            wrong("max", "must be at least 1");
        }
        if rule.ipv6_prefix.is_some_and(|bits| !(1..=128).contains(&bits)) {
            wrong("ipv6_prefix", "must be from 1 to 128");
        } else if rule.ipv6_prefix.is_some() && !rule.by.contains(&KeyField::Ip) {
            wrong("ipv6_prefix", "goes with `ip` in `by`, which this rule does not count by");
        }
        if !(1_000..=86_400_000).contains(&rule.per.0.as_millis()) {
            wrong("per", "must be 1s to 24h");
        }
        if rule.excess == Excess::Hold {
            // One event replaces the others, so they must have the same actor and subject.
            if ![KeyField::ActorId, KeyField::SubjectId].iter().all(|field| rule.by.contains(field)) {
                wrong(
                    "by",
                    "needs `actor_id` and `subject_id` with `excess: hold`: the last click of a user on a subject stays",
                );
            }
            let held_before = |event: &&String| {
                rules[..i].iter().any(|earlier| earlier.excess == Excess::Hold && earlier.events.contains(event))
            };
            if let Some(event) = rule.events.iter().find(held_before) {
                wrong("events", &format!("`{event}` is held by an earlier rule already"));
            }
        }
    }
    match errors.is_empty() {
        true => Ok(Box::new(RateCheck { node: node.to_owned(), rules })),
        false => Err(errors),
    }
}

impl RateCheck {
    fn holds(&self) -> bool {
        self.rules.iter().any(|rule| rule.excess == Excess::Hold)
    }

    fn held_name(&self) -> String {
        format!("{}-held", self.node)
    }
}

impl Blueprint<Actions> for RateCheck {
    fn stores(&self) -> Vec<StoreSpec> {
        let store = |name, kind, make| StoreSpec { name, kind, schema_version: 1, windows: Vec::new(), make };
        let mut stores = vec![store(self.node.clone(), "window", Passed::make as fn() -> _)];
        if self.holds() {
            stores.push(store(self.held_name(), "due", HeldEvents::make));
        }
        stores
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let owned: Vec<_> = site.nodes.iter().flat_map(|(_, facts)| facts.owned_types()).collect();
        let mut errors = event_schema::refuse_closed(site);
        for (i, rule) in self.rules.iter().enumerate() {
            if rule.grace.is_some_and(|grace| grace.0 > site.settings.late_after) {
                errors.push(ParamError::new(format!("rules[{i}].grace"), "must be at most `late_after`"));
            }
            for (j, event) in rule.events.iter().enumerate().filter(|(_, event)| !site.kinds.contains(event)) {
                let message = format!("no processor counts events of type `{event}`");
                errors.push(ParamError::new(format!("rules[{i}].events[{j}]"), message));
            }
            for (j, event) in rule.events.iter().enumerate().filter(|(_, event)| owned.contains(event)) {
                let message =
                    format!("the database owns `{event}`: its row is written before any rule could refuse it");
                errors.push(ParamError::new(format!("rules[{i}].events[{j}]"), message));
            }
            if let Err((j, message)) = check_held(rule, site) {
                errors.push(ParamError::new(format!("rules[{i}].events[{j}]"), message));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let rules_of = |kind| self.rules.iter().filter(|rule| rule.events.contains(kind)).map(Limit::new).collect();
        Box::new(RateCheckProcessor {
            node: self.node.clone(),
            limits: site.kinds.iter().map(rules_of).collect(),
            event_types: EventTypes::new(site),
            passed: site.store(&self.node),
            held: self.holds().then(|| site.store(&self.held_name())),
            hash_seed: site.hash_seed,
            windows: Vec::new(),
        })
    }
}

fn of_no_toggle(event: &str) -> String {
    format!("`{event}` is no event of a toggle: every one counts, so use `excess: drop`")
}

/// A rule may hold only events of one toggle: of other events, more than the last one counts. Nodes that pass events on, and
/// those that aggregate, take what is released.
fn check_held(rule: &Rule, site: &BuildSite<'_, Actions>) -> Result<(), (usize, String)> {
    if rule.excess != Excess::Hold {
        return Ok(());
    }
    let mut first = None;
    for (j, event) in rule.events.iter().enumerate() {
        let takes = |facts: &NodeFacts| facts.event_types.contains(event);
        let mut counting = site.nodes.iter().filter(|(_, facts)| facts.counts_by_changes() && takes(facts));
        let Some((name, facts)) = counting.next() else {
            match site.nodes.iter().any(|(_, facts)| takes(facts)) {
                true => return Err((j, of_no_toggle(event))),
                // An event type that no node takes is another mistake.
                false => continue,
            }
        };
        if let Some((other, _)) = counting.next() {
            return Err((
                j,
                format!("`{event}` is counted by `{name}` and `{other}`: only the events of one toggle can be held"),
            ));
        }
        if facts.toggle.is_none() {
            return Err((j, of_no_toggle(event)));
        }
        let toggle = *first.get_or_insert(*name);
        if toggle != *name && !rule.by.contains(&KeyField::Type) {
            return Err((
                j,
                format!("`{event}` is of toggle `{name}`, the ones before are of `{toggle}`: make a rule for each"),
            ));
        }
    }
    Ok(())
}

struct RateCheckProcessor {
    node: String,
    /// By kind of events, the rules for them, in their order.
    limits: Vec<Vec<Limit>>,
    event_types: EventTypes,
    passed: StoreHandle<Passed>,
    /// None where no rule holds anything.
    held: Option<StoreHandle<HeldEvents>>,
    hash_seed: u64,
    /// The windows of the current event: their keys, and until when each is kept.
    windows: Vec<(Hash128, i64)>,
}

/// A rule, compiled.
struct Limit {
    rule: String,
    by: Vec<KeyField>,
    max: u32,
    per_ms: i64,
    grace_ms: i64,
    excess: Excess,
    ipv6_prefix_bits: u8,
}

impl Limit {
    fn new(rule: &Rule) -> Self {
        Self {
            rule: rule.name.clone(),
            by: rule.by.clone(),
            max: rule.max,
            per_ms: rule.per.0.as_millis() as i64,
            grace_ms: rule.grace.map_or(0, |grace| grace.0.as_millis() as i64),
            excess: rule.excess,
            ipv6_prefix_bits: rule.ipv6_prefix.unwrap_or(IPV6_PREFIX_BITS),
        }
    }

    /// The window of an event: its key, and the time after which no event can fall into it.
    fn window(&self, action: &Action, append_time_ms: i64, hash_seed: u64) -> Option<(Hash128, i64)> {
        let window = action.effective_ms.max(append_time_ms - self.grace_ms).div_euclid(self.per_ms);
        let window_bytes = window.to_le_bytes();
        let mut fields: [Cow<'_, str>; 4] = Default::default();
        for (place, field) in fields.iter_mut().zip(&self.by) {
            *place = field.of(&action.event, self.ipv6_prefix_bits)?;
        }
        let [a, b, c, d] = fields.each_ref().map(|field| field.as_bytes());
        let parts: [&[u8]; 6] = [self.rule.as_bytes(), &window_bytes, a, b, c, d];
        Some((Hash128::of(hash_seed, &parts), (window + 1) * self.per_ms + self.grace_ms))
    }
}

impl Processor<Actions> for RateCheckProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if action.seq.is_some() {
            context.pass();
            return Ok(());
        }
        let append_time_ms = context.origin().append_time_ms;
        self.windows.clear();
        let mut exceeded = None;
        for limit in self.limits.get(action.kind).into_iter().flatten() {
            let Some((key, keep_until_ms)) = limit.window(action, append_time_ms, self.hash_seed) else { continue };
            if context.store(self.passed).get(&key).is_some_and(|passed| *passed >= limit.max) {
                if limit.excess == Excess::Drop {
                    let verdict = action.verdict(context, VerdictKind::Limited, &self.node, limit.rule.clone());
                    context.forward(verdict);
                    return Ok(());
                }
                // Only if no rule drops it. No event is of two rules that hold.
                exceeded = Some((limit, key, keep_until_ms));
            }
            self.windows.push((key, keep_until_ms));
        }
        if let (Some(held), Some((limit, key, due_ms))) = (self.held, exceeded) {
            let new = Held::new(context, &limit.rule, action);
            let before = context.store(held).get(&key).cloned();
            if before.as_ref().is_some_and(|before| before.effective_ms() > new.effective_ms()) {
                context.forward(new.verdict(context, VerdictKind::Limited, &self.node));
                return Ok(());
            }
            if let Some(before) = before {
                context.forward(before.verdict(context, VerdictKind::Limited, &self.node));
            }
            context.forward(new.verdict(context, VerdictKind::Held, &self.node));
            context.store(held).put(&key, due_ms, new);
            return Ok(());
        }
        for (key, keep_until_ms) in &self.windows {
            context.store(self.passed).upsert(key, *keep_until_ms, 1, |passed| *passed += 1);
        }
        context.pass();
        Ok(())
    }

    fn schedules(&self) -> Vec<Schedule> {
        let mut schedules = vec![Schedule { kind: PunctuationType::Clock, interval_ms: MINUTE_MS }];
        schedules.extend(self.held.map(|_| Schedule { kind: PunctuationType::Timer, interval_ms: 1 }));
        schedules
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, kind: PunctuationType, time_ms: i64) {
        match (kind, self.held) {
            (PunctuationType::Timer, Some(held)) => {
                while let Some((due_ms, event)) = context.store(held).take_due(time_ms) {
                    context.forward(event.verdict(context, VerdictKind::Released, &self.node));
                    event.release(context, &self.event_types, due_ms);
                }
            }
            _ => context.store(self.passed).expire(time_ms),
        }
    }
}
