//! How many distinct visitors: exact as sorted 64-bit hashes up to 256, then HyperLogLog with 2^14 registers.
//!
//! Sources: Flajolet et al., "HyperLogLog" (2007), for the registers, laid out as in crate `hyperloglog`; Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6, for the estimate: no thresholds, no
//! bias tables, standard error 0.81 %. A histogram of the ranks makes the estimate O(64). This code has its own
//! registers because an open transaction must be able to undo an item.

use tally_streams::store::{Accumulator, StoreValue};

/// The most hashes that are kept one by one.
const EXACT_MAX: usize = tally_model::UNIQUES_EXACT_MAX as usize;
const P: u32 = 14;
const REGISTERS: usize = 1 << P;
/// Ranks run from 0 (nothing seen) to Q + 1.
const Q: usize = 64 - P as usize;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Sketch {
    /// Ascending, at most [`EXACT_MAX`].
    Exact(Vec<u64>),
    /// More items than that.
    Estimate(Box<Registers>),
}

/// HyperLogLog.
#[derive(Clone, Debug, PartialEq)]
pub struct Registers {
    ranks: [u8; REGISTERS],
    histogram: [u16; Q + 2],
}

/// Reverts one item.
pub enum SketchUndo {
    /// Remove the hash.
    Remove(u64),
    /// Put the rank back.
    Rank(u16, u8),
    /// Be exact again.
    Exact(Vec<u64>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Registers {
    fn new() -> Self {
        let mut histogram = [0; Q + 2];
        histogram[0] = REGISTERS as u16;
        Self { ranks: [0; REGISTERS], histogram }
    }

    /// The register that a hash raises and its rank before, or None where it raises none.
    fn add(&mut self, hash: u64) -> Option<(u16, u8)> {
        let register = hash as usize & (REGISTERS - 1);
        let rank = (Q as u32 - (u64::BITS - (hash >> P).leading_zeros()) + 1) as u8;
        let before = self.ranks[register];
        (rank > before).then(|| {
            self.set(register, rank);
            (register as u16, before)
        })
    }

    fn set(&mut self, register: usize, rank: u8) {
        self.histogram[self.ranks[register] as usize] -= 1;
        self.histogram[rank as usize] += 1;
        self.ranks[register] = rank;
    }

    fn estimate(&self) -> f64 {
        let m = REGISTERS as f64;
        let count = |rank: usize| f64::from(self.histogram[rank]);
        let mut z = m * tau(1.0 - count(Q + 1) / m);
        for rank in (1..=Q).rev() {
            z = 0.5 * (z + count(rank));
        }
        z += m * sigma(count(0) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

impl Sketch {
    /// The number of distinct items. An estimate is never below the limit of exact counts.
    pub fn count(&self) -> i64 {
        match self {
            Self::Exact(hashes) => hashes.len() as i64,
            Self::Estimate(registers) => (registers.estimate().round() as i64).max(EXACT_MAX as i64 + 1),
        }
    }
}

/// What changed of a sketch, to which items were added.
#[derive(Debug, PartialEq)]
pub enum Growth<'a> {
    /// Hashes that it holds now.
    Hashes(Vec<u64>),
    /// Registers with their ranks now.
    Ranks(Vec<(u16, u8)>),
    /// It has become an estimate: all ranks.
    All(&'a [u8]),
}

impl Sketch {
    /// What changed since `before`.
    pub fn growth(&self, before: &Self) -> Growth<'_> {
        match (self, before) {
            (Self::Exact(hashes), Self::Exact(before)) => {
                let is_new = |hash: &&u64| before.binary_search(hash).is_err();
                Growth::Hashes(hashes.iter().filter(is_new).copied().collect())
            }
            (Self::Estimate(now), Self::Estimate(before)) => {
                let ranks = (0..).zip(now.ranks.iter().zip(&before.ranks));
                Growth::Ranks(ranks.filter(|(_, (now, was))| now != was).map(|(at, (now, _))| (at, *now)).collect())
            }
            (Self::Estimate(now), Self::Exact(_)) => Growth::All(&now.ranks),
            (Self::Exact(hashes), Self::Estimate(_)) => Growth::Hashes(hashes.clone()),
        }
    }

    /// Raises registers to these ranks; false if one of them is invalid. An exact sketch becomes an estimate.
    pub fn raise(&mut self, ranks: impl IntoIterator<Item = (u16, u8)>) -> bool {
        let registers = self.registers();
        ranks.into_iter().all(|(register, rank)| {
            let is_valid = usize::from(register) < REGISTERS && usize::from(rank) <= Q + 1;
            if is_valid && rank > registers.ranks[usize::from(register)] {
                registers.set(register.into(), rank);
            }
            is_valid
        })
    }

    /// Adds the items of another sketch.
    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => hashes.iter().for_each(|hash| drop(self.add(*hash))),
            Self::Estimate(other) => _ = self.raise((0..).zip(other.ranks)),
        }
    }

    fn registers(&mut self) -> &mut Registers {
        if let Self::Exact(hashes) = self {
            let mut registers = Box::new(Registers::new());
            hashes.iter().for_each(|hash| {
                registers.add(*hash);
            });
            *self = Self::Estimate(registers);
        }
        match self {
            Self::Estimate(registers) => registers,
            Self::Exact(_) => unreachable!("it has just become an estimate"),
        }
    }
}

impl Accumulator for Sketch {
    type Undo = SketchUndo;

    fn add(&mut self, hash: u64) -> Option<SketchUndo> {
        match self {
            Self::Exact(hashes) => {
                let at = hashes.binary_search(&hash).err()?;
                if hashes.len() < EXACT_MAX {
                    // Most of the state of many a topology: doubling would leave a third of it unused.
                    if hashes.len() == hashes.capacity() {
                        hashes.reserve_exact(hashes.len() / 8 + 2);
                    }
                    hashes.insert(at, hash);
                    return Some(SketchUndo::Remove(hash));
                }
                let mut registers = Box::new(Registers::new());
                for hash in hashes.iter().chain([&hash]) {
                    registers.add(*hash);
                }
                let exact = std::mem::take(hashes);
                *self = Self::Estimate(registers);
                Some(SketchUndo::Exact(exact))
            }
            Self::Estimate(registers) => registers.add(hash).map(|(register, rank)| SketchUndo::Rank(register, rank)),
        }
    }

    fn revert(&mut self, undo: SketchUndo) {
        match (self, undo) {
            (this, SketchUndo::Exact(hashes)) => *this = Self::Exact(hashes),
            (Self::Exact(hashes), SketchUndo::Remove(hash)) => hashes.retain(|known| *known != hash),
            (Self::Estimate(registers), SketchUndo::Rank(register, rank)) => registers.set(register as usize, rank),
            // Undo runs backwards, so the form is the one that the step left.
            (Self::Exact(_), SketchUndo::Rank(..)) | (Self::Estimate(_), SketchUndo::Remove(_)) => {}
        }
    }
}

impl StoreValue for Sketch {
    /// Form (0 exact, 1 registers), then u64 LE each or 2^14 ranks.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(hashes) => {
                out.push(0);
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
            }
            Self::Estimate(registers) => {
                out.push(1);
                out.extend_from_slice(&registers.ranks);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, rest) => {
                let (hashes, rest) = rest.as_chunks::<8>();
                rest.is_empty().then(|| Self::Exact(hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect()))
            }
            (1, ranks) => {
                let ranks: &[u8; REGISTERS] = ranks.try_into().ok()?;
                let mut registers = Box::new(Registers { ranks: *ranks, histogram: [0; Q + 2] });
                for rank in ranks {
                    *registers.histogram.get_mut(*rank as usize)? += 1;
                }
                Some(Self::Estimate(registers))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    fn hash(i: u64, seed: u64) -> u64 {
        // The seed alone would only permute short inputs: trials would not be independent.
        xxh3_64_with_seed(&[i.to_le_bytes(), seed.to_le_bytes()].concat(), seed)
    }

    fn filled(n: u64, seed: u64) -> Sketch {
        let mut sketch = Sketch::default();
        (0..n).for_each(|i| drop(sketch.add(hash(i, seed))));
        sketch
    }

    #[test]
    fn is_exact_up_to_256_and_stays_above_afterwards() {
        for n in [0, 1, 100, 255, 256] {
            assert_eq!(filled(n, 1).count(), n as i64);
        }
        for seed in 0..50 {
            assert!(filled(257, seed).count() >= 257);
        }
    }

    #[test]
    fn the_error_stays_within_what_the_method_promises() {
        for (n, trials) in [(300, 60), (1_000, 60), (20_000, 40), (135_000, 20), (1_000_000, 20)] {
            let errors: Vec<f64> = (0..trials).map(|seed| filled(n, seed).count() as f64 / n as f64 - 1.0).collect();
            let rmse = (errors.iter().map(|e| e * e).sum::<f64>() / trials as f64).sqrt();
            assert!(rmse < 0.0125, "n = {n}: rmse {rmse}");
            assert!(errors.iter().all(|e| e.abs() < 0.04), "n = {n}: {errors:?}");
        }
    }

    #[test]
    fn the_registers_are_those_of_crate_hyperloglog() {
        // An error of 0.0015 gives 2^14 registers in that crate; they follow its header in the postcard bytes.
        let mut other = hyperloglog::HyperLogLog::new_deterministic(0.0015, 7);
        (0..50_000).for_each(|i| other.insert_by_hash_value(hash(i, 3)));
        let bytes = postcard::to_allocvec(&other).unwrap();
        let Sketch::Estimate(registers) = filled(50_000, 3) else { panic!("still exact") };
        assert!(bytes.windows(REGISTERS).any(|window| window == registers.ranks));
    }

    proptest! {
        #[test]
        fn sketches_merge_and_grow_as_their_items_do(a in 0..600u64, from in 0..600u64, b in 0..600u64) {
            let other = {
                let mut other = Sketch::default();
                (from..from + b).for_each(|i| drop(other.add(hash(i, 1))));
                other
            };
            let before = filled(a, 1);
            let mut merged = before.clone();
            merged.merge(&other);
            let mut added = before.clone();
            (from..from + b).for_each(|i| drop(added.add(hash(i, 1))));
            // An estimate of few items stays one.
            if matches!((&merged, &added), (Sketch::Estimate(_), Sketch::Estimate(_)) | (Sketch::Exact(_), Sketch::Exact(_))) {
                prop_assert_eq!(&merged, &added);
            } else {
                prop_assert!(matches!(other, Sketch::Estimate(_)));
            }
            let mut grown = before.clone();
            match added.growth(&before) {
                Growth::Hashes(hashes) => hashes.iter().for_each(|hash| drop(grown.add(*hash))),
                Growth::Ranks(ranks) => prop_assert!(grown.raise(ranks)),
                Growth::All(ranks) => prop_assert!(grown.raise((0..).zip(ranks.iter().copied()))),
            }
            prop_assert_eq!(grown, added);
        }

        #[test]
        fn every_step_can_be_taken_back(before in 0..400u64, taken in prop::collection::vec(0..600u64, 0..400)) {
            let mut sketch = filled(before, 1);
            let start = sketch.clone();
            let undo: Vec<_> = taken.iter().filter_map(|i| sketch.add(hash(*i, 1))).collect();
            undo.into_iter().rev().for_each(|undo| sketch.revert(undo));
            prop_assert_eq!(sketch, start);
        }

        #[test]
        fn survives_the_way_through_bytes(n in 0..1_000u64) {
            let sketch = filled(n, 2);
            let mut bytes = Vec::new();
            sketch.encode(&mut bytes);
            prop_assert_eq!(Sketch::decode(&bytes), Some(sketch));
        }
    }
}
