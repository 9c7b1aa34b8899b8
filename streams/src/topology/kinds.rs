//! Kinds of values: an edge passes a node only the kinds that the node takes.

use super::Target;
use crate::processor::Dataflow;
use std::collections::BTreeSet;

/// The names of all kinds that nodes with these facts choose, and of the declared ones, sorted: a kind is a place in this
/// list.
pub(super) fn of_nodes<'a, D: Dataflow>(
    facts: impl Iterator<Item = &'a D::Facts>,
    declared: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let kinds: BTreeSet<&String> = facts.flat_map(|facts| D::kinds_taken(facts)).chain(declared).collect();
    kinds.into_iter().cloned().collect()
}

/// The kinds that a node takes.
pub(super) enum Taken {
    Every,
    /// Whether it takes it, by kind.
    Kinds(Vec<bool>),
}

impl Taken {
    pub fn new<D: Dataflow>(facts: &D::Facts, kinds: &[String]) -> Self {
        match D::kinds_taken(facts) {
            [] => Self::Every,
            taken => Self::Kinds(kinds.iter().map(|kind| taken.contains(kind)).collect()),
        }
    }

    /// Whether it takes a kind; None is a value that is of no kind.
    fn takes(&self, kind: Option<usize>) -> bool {
        match self {
            Self::Every => true,
            Self::Kinds(taken) => kind.is_some_and(|kind| taken[kind]),
        }
    }
}

/// Where the values of one edge type go from a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    targets: Vec<Target>,
    by_kind: Vec<Vec<Target>>,
    /// For values of no kind.
    rest: Vec<Target>,
}

impl Route {
    /// `taken` is what each node of the subtopology takes.
    pub(super) fn new(targets: Vec<Target>, kinds: usize, taken: &[Taken]) -> Self {
        let takes = |target: &Target, kind| match target {
            Target::Node(node) => taken[*node].takes(kind),
            // Readers behind a hop are chosen there, and a topic holds all values of its type.
            Target::Hop(_) | Target::Output(_) => true,
        };
        let of = |kind| targets.iter().copied().filter(|target| takes(target, kind)).collect();
        Self { by_kind: (0..kinds).map(|kind| of(Some(kind))).collect(), rest: of(None), targets }
    }

    /// Everything that takes some of the values.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// What takes the values of a kind: see [`Dataflow::kind`].
    pub fn of_kind(&self, kind: usize) -> &[Target] {
        self.by_kind.get(kind).unwrap_or(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_kinds_that_it_takes_and_everything_else_goes_on() {
        let [every, likes, both] =
            [Taken::Every, Taken::Kinds(vec![true, false, false]), Taken::Kinds(vec![true, true, false])];
        let all = [Target::Node(0), Target::Node(1), Target::Node(2), Target::Hop(0), Target::Output(3)];
        let route = Route::new(all.to_vec(), 3, &[every, likes, both]);
        assert_eq!(route.targets(), all);
        assert_eq!(route.of_kind(0), all);
        assert_eq!(route.of_kind(1), [all[0], all[2], all[3], all[4]]);
        // A kind that only nodes of other subtopologies take, and an unknown kind.
        for kind in [2, 3, usize::MAX] {
            assert_eq!(route.of_kind(kind), [all[0], all[3], all[4]]);
        }
    }
}
