//! Merges the partitions' tops into one board.
//!
//! A subject on a board of n places is among the first n of its partition, so the tops are enough.

use super::params::{BoardParams, Rules};
use super::sent::{Digest, SENT, Sent, is_news, of_group, sent_name};
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::facts::NodeFacts;
use crate::item::Item;
use std::sync::Arc;
use tally_model::{PartitionTop, Ranked, Ranking, decode_tops, encode_tops};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::store::{KeyValueStore, StoreHandle, StoreValue};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, Params, Parsed, StoreSpec};

/// The node that every board implies. It has one partition: boards are few and small.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "merge",
    about: "combines the tops of all partitions into one board",
    input: EdgeType::Top.name(),
    outputs: &[EdgeType::Ranking.name()],
    key: Some("board"),
    partitions: Some(1),
    then: None,
    params: BoardParams::specs,
    parse,
};

/// The tops by partition, as decimal text; for groups with `@` and their name. A partition without subjects has none.
type Tops = KeyValueStore<Arc<str>, StoredTop>;

#[derive(Clone, Debug, PartialEq)]
struct StoredTop(Arc<PartitionTop>);

impl StoreValue for StoredTop {
    /// The format of the repartition topic.
    fn encode(&self, out: &mut Vec<u8>) {
        encode_tops([&*self.0], usize::MAX, |body| out.extend_from_slice(&body));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut top = None;
        decode_tops(bytes, |decoded| top = Some(decoded)).ok()?;
        top.map(|top| Self(Arc::new(top)))
    }
}

/// The checked node that a `board` implies.
pub struct Merge {
    node: String,
    rules: Rules,
}

/// The parameters are those of the board.
fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    let rules = Rules::new(params.parse::<BoardParams>()?)?;
    Ok(Box::new(Merge { node: node.to_owned(), rules }))
}

impl Blueprint<Actions> for Merge {
    fn facts(&self) -> NodeFacts {
        let boards = self.rules.board_groups().map(|group| of_group(&self.node, group).to_string());
        NodeFacts { boards: boards.collect(), ..NodeFacts::default() }
    }

    fn stores(&self) -> Vec<StoreSpec> {
        let store = |name, make| StoreSpec { name, kind: "key-value", schema_version: 1, windows: Vec::new(), make };
        vec![store(self.node.clone(), Tops::make), store(sent_name(&self.node), Sent::make)]
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let board = |group| MergedBoard {
            name: of_group(&self.node, group),
            partitions: (0..site.upstream_tasks).map(|number| of_group(&number.to_string(), group)).collect(),
            sent_key: of_group(SENT, group),
            stale: true,
        };
        Box::new(MergeProcessor {
            boards: self.rules.board_groups().map(board).collect(),
            top: self.rules.top,
            tops: site.store(&self.node),
            sent: site.store(&sent_name(&self.node)),
        })
    }
}

struct MergeProcessor {
    /// The overall board, and that of each group.
    boards: Vec<MergedBoard>,
    top: usize,
    tops: StoreHandle<Tops>,
    sent: StoreHandle<Sent>,
}

struct MergedBoard {
    name: Arc<str>,
    /// The keys of its tops.
    partitions: Vec<Arc<str>>,
    sent_key: Arc<str>,
    /// Whether it may differ from the last written one.
    stale: bool,
}

/// The first `n` of all tops.
///
/// Tops may be of different epochs while the clock passes from one to the next. The scores of older ones are halved and
/// truncated once per epoch, as in `decayed` of `slots`.
fn merge(tops: &[Arc<PartitionTop>], n: usize) -> Vec<(&str, i128)> {
    let epoch = tops.iter().map(|top| top.epoch).max().unwrap_or_default();
    let aged = |top: &PartitionTop, score: i128| score >> epoch.saturating_sub(top.epoch).clamp(0, 127);
    let items = tops.iter().flat_map(|top| top.items.iter().map(|(id, score)| (&**id, aged(top, *score))));
    let mut items: Vec<(&str, i128)> = items.filter(|(_, score)| *score > 0).collect();
    let compare = |a: &(&str, i128), b: &(&str, i128)| b.1.cmp(&a.1).then_with(|| a.0.as_bytes().cmp(b.0.as_bytes()));
    if items.len() > n {
        items.select_nth_unstable_by(n, compare);
        items.truncate(n);
    }
    items.sort_unstable_by(compare);
    items
}

/// Greater scores do not fit a record of the topic: the values of 64 bits above this one are used to keep the order of
/// such scores.
const EXACT_MAX: i64 = i64::MAX - (STEP << 12);
/// The step between two of these values; as doubles they still differ.
const STEP: i64 = 2_048;

/// The items of a board, best first, with scores of 64 bits in the same order. Up to [`EXACT_MAX`] they are exact;
/// greater scores get values above it in steps of [`STEP`], equal scores the same value.
fn fitted(items: &[(&str, i128)]) -> Vec<Ranked> {
    let (mut above, mut last) = (EXACT_MAX, None);
    let fit = |(subject_id, score): &(&str, i128)| {
        let subject_id = (*subject_id).to_owned();
        match i64::try_from(*score) {
            Ok(score) if score <= EXACT_MAX => Ranked { subject_id, score },
            _ => {
                if last.replace(*score) != Some(*score) {
                    above += STEP;
                }
                Ranked { subject_id, score: above }
            }
        }
    };
    let mut ranked: Vec<_> = items.iter().rev().map(fit).collect();
    ranked.reverse();
    ranked
}

impl MergeProcessor {
    fn ranking(&self, context: &mut Context<'_, Actions>, board: &MergedBoard) -> Option<Ranking> {
        let tops: Vec<_> = (board.partitions.iter())
            .filter_map(|partition| context.store(self.tops).get(partition).map(|top| top.0.clone()))
            .collect();
        let items = fitted(&merge(&tops, self.top));
        // A board that never had a subject is not published. The published form decides: scores that do not fit may
        // differ and be written alike.
        let written = || items.iter().map(|item| (item.subject_id.as_str(), i128::from(item.score)));
        let digest = (!items.is_empty()).then(|| Digest::of(0, written()));
        if !is_news(context.store(self.sent), &board.sent_key, digest) {
            return None;
        }
        Some(Ranking { board: board.name.to_string(), items, as_of_ms: context.clock_ms(), version: context.version() })
    }
}

impl Processor<Actions> for MergeProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Top(top) = item else { return Ok(()) };
        let Some(board) = self.boards.iter_mut().find(|board| board.name == top.board) else { return Ok(()) };
        let Some(partition) = board.partitions.get(top.partition as usize) else {
            let reason = format!("a top of partition {}, which this topology does not have", top.partition);
            return Err(Reject::new(reason));
        };
        let tops = context.store(self.tops);
        match top.items.is_empty() {
            true => tops.delete(partition),
            false => tops.put(partition, StoredTop(Arc::new(top.clone()))),
        }
        board.stale = true;
        Ok(())
    }

    fn flush(&mut self, context: &mut Context<'_, Actions>) {
        // Before every partition has sent its top, a board would lack subjects that are on it.
        if context.clock_ms() == i64::MIN {
            return;
        }
        for board in self.boards.iter().filter(|board| board.stale) {
            if let Some(ranking) = self.ranking(context, board) {
                context.forward(Item::Ranking(ranking));
            }
        }
        self.boards.iter_mut().for_each(|board| board.stale = false);
    }

    fn discard(&mut self) {
        self.boards.iter_mut().for_each(|board| board.stale = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_beyond_64_bits_keep_their_order() {
        let beyond = i128::from(i64::MAX);
        let exact = i128::from(EXACT_MAX);
        let items =
            [("a", beyond * 9), ("b", beyond * 3), ("c", beyond * 3), ("d", exact + 1), ("e", exact), ("f", 4_000)];
        let scores: Vec<i64> = fitted(&items).into_iter().map(|item| item.score).collect();
        let expected = [3, 2, 2, 1, 0].map(|steps| EXACT_MAX + steps * STEP);
        assert_eq!(scores, [&expected[..], &[4_000]].concat());
        let doubles: Vec<f64> = scores.iter().map(|score| *score as f64).collect();
        assert!(
            doubles.windows(2).zip(items.windows(2)).all(|(d, i)| (d[0] > d[1]) == (i[0].1 > i[1].1)),
            "{doubles:?}"
        );
        // A board has at most 1,000 places.
        let many: Vec<_> = (0..1_000).rev().map(|n| ("a", beyond + n)).collect();
        let scores: Vec<i64> = fitted(&many).into_iter().map(|item| item.score).collect();
        assert!(scores.is_sorted_by(|a, b| a > b) && scores[0] <= i64::MAX - STEP);
    }
}
