//! The scores of one partition's subjects, and who is at their top.

use super::slots::Aging;
use super::{Digest, MINUTE_MS, Rules, SENT, Scores, Sent};
use crate::item::{Actions, Item};
use std::sync::Arc;
use tally_model::{Delta, PartitionTop, SubjectChanges, subject_kind};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};
use tally_streams::store::StoreHandle;

pub(super) struct SubjectBoard {
    pub board: Arc<str>,
    pub rules: Arc<Rules>,
    /// By minute of an epoch; empty for a window.
    pub decay: Arc<[u64]>,
    pub scores: StoreHandle<Scores>,
    pub sent: StoreHandle<Sent>,
}

impl SubjectBoard {
    /// The slot that a change goes to, and what it adds there; None where it does not count.
    fn amount(&self, delta: &Delta) -> Option<(i64, i128)> {
        let (_, weight) = self.rules.weights.iter().find(|(metric, _)| *metric == delta.metric)?;
        let amount = i128::from(*weight).wrapping_mul(i128::from(delta.delta));
        let slot = delta.minute.div_euclid(self.rules.slot_minutes);
        match self.rules.aging {
            // Also what is `total_only`, which windows of totals must ignore: they may be closed. A bucket never is, it
            // leaves by the clock; as long as it counts, what it holds can be taken back.
            Aging::Window { .. } => Some((slot, amount)),
            Aging::HalfLife => {
                let minute = delta.minute.rem_euclid(self.rules.slot_minutes);
                let weight = self.decay.get(usize::try_from(minute).ok()?)?;
                Some((slot, amount.wrapping_mul(i128::from(*weight))))
            }
        }
    }

    /// Brings the order of scores to the clock; the first slot that counts.
    fn advance(&self, context: &mut Context<'_, Actions>) -> Option<i64> {
        let tick = self.rules.tick(context.clock_ms())?;
        context.store(self.scores).advance(self.rules.aging, tick);
        Some(self.rules.aging.first_slot(tick))
    }

    /// What the board's task gets to know; None where it knows it already.
    fn news(&self, context: &mut Context<'_, Actions>) -> Option<PartitionTop> {
        self.advance(context)?;
        let items = context.store(self.scores).take_top(self.rules.top)?;
        let epoch = match self.rules.aging {
            Aging::HalfLife => self.rules.tick(context.clock_ms())?,
            Aging::Window { .. } => 0,
        };
        // To say that there is nobody is the same in every epoch, and needless before there was anybody.
        let digest = (!items.is_empty()).then(|| Digest::of(epoch, items.iter().map(|(id, score)| (&**id, *score))));
        let sent = context.store(self.sent);
        if sent.get(&SENT.into()).copied() == digest {
            return None;
        }
        *sent.modify(&SENT.into()) = digest;
        Some(PartitionTop { board: self.board.clone(), partition: context.origin().partition, epoch, items })
    }
}

impl Processor<Actions> for SubjectBoard {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Changes(SubjectChanges { subject_id, deltas, .. }) = item else { return Ok(()) };
        if self.rules.kinds.as_ref().is_some_and(|kinds| kinds.iter().all(|kind| kind != subject_kind(subject_id))) {
            return Ok(());
        }
        let first = self.advance(context).unwrap_or(i64::MIN);
        let amounts: Vec<_> =
            deltas.iter().filter_map(|delta| self.amount(delta)).filter(|(slot, _)| *slot >= first).collect();
        if !amounts.is_empty() {
            context.store(self.scores).modify(subject_id, |slots| {
                slots.forget_before(first);
                amounts.into_iter().for_each(|(slot, amount)| slots.add(slot, amount));
            });
        }
        Ok(())
    }

    /// So that a task in which nothing happens commits, and sends what time has changed.
    fn schedules(&self) -> Vec<Schedule> {
        vec![Schedule { kind: PunctuationType::Clock, interval_ms: self.rules.slot_minutes * MINUTE_MS }]
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, _time_ms: i64) {
        self.advance(context);
    }

    fn flush(&mut self, context: &mut Context<'_, Actions>) {
        if let Some(top) = self.news(context) {
            context.forward(Item::Top(top));
        }
    }
}
