//! The scores of one partition's subjects, and its top.

use super::params::Rules;
use super::sent::{Digest, SENT, Sent, is_news, of_group, sent_name};
use super::slots::{Aging, Slots};
use crate::counting::windows::MINUTE_MS;
use crate::dataflow::Actions;
use crate::item::Item;
use hashbrown::HashMap;
use std::sync::Arc;
use tally_model::{Delta, PartitionTop, SubjectChanges, Visitors, grouped_metric, subject_kind};
use tally_streams::processor::{Context, Processor, PunctuationType, Reject, Schedule};
use tally_streams::store::{RankedStore, StoreHandle};
use tally_streams::topology::BuildSite;

/// The scores of subjects.
pub(super) type Scores = RankedStore<Arc<str>, Slots>;

pub(super) struct SubjectBoard {
    rules: Arc<Rules>,
    /// See [`super::decay::weights`]; empty without a half-life.
    decay: Arc<[u64]>,
    /// The overall board first.
    boards: Vec<OneBoard>,
    /// Metric, as the hop names it, to its weight and its board among `boards`.
    weights: HashMap<Arc<str>, (i64, usize), ahash::RandomState>,
    /// Kinds of subjects that have no place.
    private_kinds: Vec<String>,
    scores: StoreHandle<Scores>,
    sent: StoreHandle<Sent>,
}

/// The board of all subjects, or of a group.
struct OneBoard {
    name: Arc<str>,
    /// Its group in the store of scores; empty for the board of all.
    group: Arc<str>,
    sent_key: Arc<str>,
}

impl OneBoard {
    /// The key of a subject's score.
    fn key(&self, subject_id: &Arc<str>) -> Arc<str> {
        match &*self.group {
            "" => subject_id.clone(),
            // No group and no subject has a NUL.
            group => [group, "\0", subject_id].concat().into(),
        }
    }

    fn subject_of(&self, key: Arc<str>) -> Arc<str> {
        match key.split_once('\0') {
            Some((_, subject_id)) => subject_id.into(),
            None => key,
        }
    }
}

/// A change to the score of a subject.
#[derive(Clone, Copy)]
enum Step {
    Add(i128),
    /// The hash of an actor.
    Act(u64),
}

impl SubjectBoard {
    pub fn new(rules: Arc<Rules>, decay: Arc<[u64]>, site: &BuildSite<'_, Actions>) -> Self {
        let property = rules.groups.as_ref().map_or("", |groups| &groups.property);
        let (mut boards, mut weights) = (Vec::new(), HashMap::default());
        for group in rules.board_groups() {
            for (metric, weight) in &rules.weights {
                let metric = match group {
                    Some(value) => grouped_metric(metric, property, value).into(),
                    None => metric.clone(),
                };
                weights.insert(metric, (*weight, boards.len()));
            }
            let (name, sent_key) = (of_group(site.node, group), of_group(SENT, group));
            boards.push(OneBoard { name, group: group.unwrap_or_default().into(), sent_key });
        }
        let (scores, sent) = (site.store(site.node), site.store(&sent_name(site.node)));
        let private_kinds = site.nodes.iter().flat_map(|(_, facts)| &facts.private_kinds).cloned().collect();
        Self { decay, rules, boards, weights, private_kinds, scores, sent }
    }

    /// The board that a change counts on, its slot, and what it adds there; None where it does not count.
    ///
    /// `total_only` changes count too, although windows of totals must ignore them because they may be closed: a bucket
    /// is never closed, and while it counts, its changes can be undone.
    fn addition(&self, delta: &Delta) -> Option<(usize, i64, Step)> {
        let (weight, board) = self.weights.get(&delta.metric)?;
        let amount = i128::from(*weight).wrapping_mul(i128::from(delta.delta));
        let slot = delta.minute.div_euclid(self.rules.slot_minutes);
        let amount = match self.rules.scoring.aging {
            Aging::Window { .. } | Aging::Trend { .. } => amount,
            Aging::HalfLife => {
                let minute = delta.minute.rem_euclid(self.rules.slot_minutes);
                amount.wrapping_mul(i128::from(*self.decay.get(usize::try_from(minute).ok()?)?))
            }
        };
        Some((*board, slot, Step::Add(amount)))
    }

    /// The same for the actors.
    fn acts<'a>(&self, visitors: &'a Visitors) -> impl Iterator<Item = (usize, i64, Step)> + use<'a> {
        let asked = self.rules.scoring.actors_min > 0;
        let board = asked.then(|| self.weights.get(&visitors.metric)).flatten().map(|(_, board)| *board);
        let slot = visitors.window.map(|(_, start_ms)| start_ms.div_euclid(self.rules.slot_minutes * MINUTE_MS));
        board
            .zip(slot)
            .into_iter()
            .flat_map(|(board, slot)| visitors.hashes.iter().map(move |hash| (board, slot, Step::Act(*hash))))
    }

    /// Advances the order of scores to the clock; returns the first slot that counts.
    fn advance(&self, context: &mut Context<'_, Actions>) -> Option<i64> {
        let tick = self.rules.tick(context.clock_ms())?;
        context.store(self.scores).advance(self.rules.scoring, tick);
        Some(self.rules.scoring.aging.first_slot(tick))
    }

    /// The top to send to the board's task; None if it was sent already.
    fn news(&self, context: &mut Context<'_, Actions>, board: &OneBoard) -> Option<PartitionTop> {
        let items = context.store(self.scores).take_top(&board.group, self.rules.top)?;
        let items: Vec<_> = items.into_iter().map(|(key, score)| (board.subject_of(key), score)).collect();
        let epoch = match self.rules.scoring.aging {
            Aging::HalfLife => self.rules.tick(context.clock_ms())?,
            Aging::Window { .. } | Aging::Trend { .. } => 0,
        };
        // An empty top is the same in every epoch, and is not sent before the first subject.
        let digest = (!items.is_empty()).then(|| Digest::of(epoch, items.iter().map(|(id, score)| (&**id, *score))));
        if !is_news(context.store(self.sent), &board.sent_key, digest) {
            return None;
        }
        Some(PartitionTop { board: board.name.clone(), partition: context.origin().partition, epoch, items })
    }
}

impl Processor<Actions> for SubjectBoard {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Changes(SubjectChanges { subject_id, deltas, visitors }) = item else { return Ok(()) };
        let has_kind = |kinds: &Vec<String>| kinds.iter().any(|kind| kind == subject_kind(subject_id));
        if has_kind(&self.private_kinds) || self.rules.kinds.as_ref().is_some_and(|kinds| !has_kind(kinds)) {
            return Ok(());
        }
        let first = self.advance(context).unwrap_or(i64::MIN);
        let additions = deltas.iter().filter_map(|delta| self.addition(delta));
        let steps = additions.chain(visitors.iter().flat_map(|visitors| self.acts(visitors)));
        let mut steps: Vec<_> = steps.filter(|(_, slot, _)| *slot >= first).collect();
        steps.sort_by_key(|(board, ..)| *board);
        for steps in steps.chunk_by(|a, b| a.0 == b.0) {
            let key = self.boards[steps[0].0].key(subject_id);
            context.store(self.scores).modify(&key, |slots| {
                slots.forget_before(first);
                for (_, slot, step) in steps {
                    match step {
                        Step::Add(amount) => slots.add(*slot, *amount),
                        Step::Act(hash) => slots.act(*hash, *slot, self.rules.scoring.actors_min),
                    }
                }
            });
        }
        Ok(())
    }

    /// Lets a task without records commit, and send changes that are due to time alone.
    fn schedules(&self) -> Vec<Schedule> {
        vec![Schedule { kind: PunctuationType::Clock, interval_ms: self.rules.slot_minutes * MINUTE_MS }]
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, _time_ms: i64) {
        self.advance(context);
    }

    fn flush(&mut self, context: &mut Context<'_, Actions>) {
        if self.advance(context).is_none() {
            return;
        }
        for board in &self.boards {
            if let Some(top) = self.news(context, board) {
                context.forward(Item::Top(top));
            }
        }
    }
}
