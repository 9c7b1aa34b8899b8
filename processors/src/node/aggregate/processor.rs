//! An `aggregate` node, or a short form of it, at work.

use super::argument::Argument;
use super::limit::{SubjectLimit, is_other};
use crate::counting::aggregation::{AggregateValue, Aggregation, Form, Function};
use crate::counting::counted_metric::{Act, CountedMetric};
use crate::counting::windows::HOUR_MS;
use crate::dataflow::Actions;
use crate::expression::Expression;
use crate::item::{Action, Item};
use crate::mistake::Mistake;
use std::sync::Arc;
use tally_model::{Contribution, Event, Partial, Slot, check_subject_id};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};

/// See the module.
pub struct AggregateProcessor {
    pub aggregation: Aggregation,
    pub condition: Option<Expression>,
    /// None is the event's own subject.
    pub subjects: Vec<Option<Expression>>,
    /// The id and the argument of each value.
    pub arguments: Vec<(u32, Option<Argument>)>,
    /// The values that are sent as changes, by their places.
    pub changes: Vec<(usize, CountedMetric)>,
    pub limit: Option<SubjectLimit>,
    /// By window, how many records came too late for it since the last commit.
    pub late: Vec<u64>,
    pub hash_seed: u64,
    /// Kept from event to event for its memory.
    pub parts: Parts,
}

/// What follows from an event.
#[derive(Default)]
pub struct Parts {
    /// What it adds to each value in which it takes part, by the id of the value.
    values: Vec<(u32, Partial)>,
    /// Each once.
    subjects: Vec<Arc<str>>,
    /// By [`AggregateProcessor::changes`].
    changes: Vec<Amount>,
    /// The windows that are open for it.
    slots: Vec<Slot>,
}

/// What an event adds to a value that is sent as changes.
#[derive(Clone, Copy)]
enum Amount {
    Delta(i64),
    /// The hash of an item.
    Visit(u64),
}

impl Parts {
    fn clear(&mut self) {
        let Self { values, subjects, changes, slots } = self;
        values.clear();
        subjects.clear();
        changes.clear();
        slots.clear();
    }

    fn add_subject(&mut self, subject_id: Arc<str>) {
        if !self.subjects.contains(&subject_id) {
            self.subjects.push(subject_id);
        }
    }
}

/// What boards and totals add up.
fn amount(value: &AggregateValue, partial: Option<&Partial>) -> Result<Amount, Mistake> {
    match partial {
        Some(Partial::Count(count)) => Ok(Amount::Delta(*count as i64)),
        Some(Partial::Sum(sum)) => i32::try_from(*sum).map(|sum| Amount::Delta(sum.into())).map_err(|_| {
            let mistake = Mistake::new("must have at most 31 bits, since a board ranks by it", sum.to_string());
            mistake.of(&format!("values.{}", value.name()))
        }),
        Some(Partial::Distinct(hashes)) => Ok(hashes.first().map_or(Amount::Delta(0), |hash| Amount::Visit(*hash))),
        _ => Ok(Amount::Delta(0)),
    }
}

impl AggregateProcessor {
    fn find_subjects(&self, event: &Event, parts: &mut Parts) -> Result<(), Mistake> {
        for subject in &self.subjects {
            let Some(expression) = subject else {
                parts.add_subject(event.subject_id.clone());
                continue;
            };
            for id in expression.texts(event).map_err(|mistake| mistake.of("subject"))? {
                if let Err(rule) = check_subject_id(&id) {
                    return Err(Mistake::new(format!("the subject {rule}"), format!("`{id}`")));
                }
                parts.add_subject(id.into());
            }
        }
        Ok(())
    }

    fn find_values(&self, context: &Context<'_, Actions>, action: &Action, parts: &mut Parts) -> Result<(), Mistake> {
        let origin = context.origin();
        let order = (action.effective_ms, origin.partition, origin.offset);
        for (value, (id, argument)) in self.aggregation.values.iter().zip(&self.arguments) {
            let partial = match argument {
                // It is computed from other values.
                _ if matches!(value.function, Function::Ratio(_)) => None,
                None => Some(Partial::Count(1)),
                Some(argument) => argument
                    .partial(value, &action.event, order, self.hash_seed)
                    .map_err(|mistake| mistake.of(&format!("values.{}", value.name())))?,
            };
            parts.values.extend(partial.map(|partial| (*id, partial)));
        }
        Ok(())
    }

    fn find_changes(&self, parts: &mut Parts) -> Result<(), Mistake> {
        for (at, _) in &self.changes {
            let id = self.arguments[*at].0;
            let partial = parts.values.iter().find(|(known, _)| *known == id).map(|(_, partial)| partial);
            parts.changes.push(amount(&self.aggregation.values[*at], partial)?);
        }
        Ok(())
    }

    fn find_slots(&mut self, append_ms: i64, action: &Action, parts: &mut Parts) {
        let Aggregation { windows, grace_ms, .. } = &self.aggregation;
        for (window, late) in windows.iter().zip(&mut self.late) {
            let (open, closed) = window.open_for(action.effective_ms, append_ms, *grace_ms);
            *late += closed;
            let slot = |(from_ms, to_ms)| Slot { window: window.id, from_ms, to_ms, session: window.session_rule() };
            parts.slots.extend(open.map(slot));
        }
    }

    fn contribute(
        &mut self,
        context: &mut Context<'_, Actions>,
        action: &Action,
        parts: &mut Parts,
    ) -> Result<(), Mistake> {
        if let Some(condition) = &self.condition
            && !condition.test(&action.event).map_err(|mistake| mistake.of("where"))?
        {
            return Ok(());
        }
        self.find_values(context, action, parts)?;
        self.find_subjects(&action.event, parts)?;
        if parts.subjects.is_empty() {
            return Ok(());
        }
        self.find_changes(parts)?;
        let form = self.aggregation.form;
        if form == Form::Values {
            // Of an event that was held back the clock is the time of its release.
            self.find_slots(context.clock_ms(), action, parts);
        }
        // A rejected event takes no place: from here on, nothing fails.
        if let Some(limit) = &mut self.limit {
            parts.subjects = limit.admit(context, std::mem::take(&mut parts.subjects));
        }
        for subject_id in &parts.subjects {
            // What stands for many subjects has no place on a board.
            if self.limit.is_none() || !is_other(subject_id) {
                self.send_changes(context, action, subject_id, &parts.changes);
            }
            if form == Form::Values {
                let (subject_id, node) = (subject_id.clone(), self.aggregation.node.clone());
                let (slots, values) = (parts.slots.clone(), parts.values.clone());
                context.forward(Item::Contribution(Contribution { subject_id, node, slots, values }));
            }
        }
        Ok(())
    }

    fn send_changes(
        &self,
        context: &mut Context<'_, Actions>,
        action: &Action,
        subject_id: &Arc<str>,
        changes: &[Amount],
    ) {
        let (event, since_ms) = (&action.event, action.effective_ms);
        for ((_, metric), amount) in self.changes.iter().zip(changes) {
            match *amount {
                Amount::Delta(delta) => {
                    let act = Act { event, since_ms, delta, group: metric.group_of(event) };
                    metric.forward(context, subject_id, &act);
                }
                Amount::Visit(hash) => {
                    let lengths_ms = self.aggregation.windows.iter().filter_map(|window| window.spec.tumbling_ms());
                    metric.forward_visit(context, subject_id, (since_ms, hash), lengths_ms);
                }
            }
        }
    }
}

impl Processor<Actions> for AggregateProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Some(action) = item.sent_event() else { return Ok(()) };
        let mut parts = std::mem::take(&mut self.parts);
        let contributed = self.contribute(context, action, &mut parts);
        parts.clear();
        self.parts = parts;
        contributed.map_err(|mistake| action.reject(context, &self.aggregation.node, mistake))
    }

    fn schedules(&self) -> Vec<Schedule> {
        self.limit.iter().map(|_| Schedule { kind: PunctuationType::Clock, interval_ms: HOUR_MS }).collect()
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, time_ms: i64) {
        if let Some(limit) = &self.limit {
            context.store(limit.store).expire(time_ms);
        }
    }

    fn discard(&mut self) {
        // What is done again is counted again.
        self.late.fill(0);
        if let Some(limit) = &mut self.limit {
            limit.excess = 0;
        }
    }

    fn take_late(&mut self) -> Vec<(Arc<str>, u64)> {
        let late = self.aggregation.windows.iter().zip(&mut self.late);
        let late = late.filter(|(_, count)| **count > 0);
        late.map(|(window, count)| (window.name.clone(), std::mem::take(count))).collect()
    }

    fn take_over_limit(&mut self) -> u64 {
        self.limit.as_mut().map_or(0, |limit| std::mem::take(&mut limit.excess))
    }
}
