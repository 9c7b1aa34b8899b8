//! Which subject: one hot one with a fixed share, the rest by Zipf's law with exponent 1.05.

use super::random::Random;

/// Thresholds in the range of `u64`, one a rank: a drawn number belongs to the first rank whose threshold is above it.
#[derive(Clone, Debug)]
pub struct Popularity(Vec<u64>);

impl Popularity {
    /// Rank 0 gets `hot_of_10_000`; rank k - 1 gets a share of the rest in proportion to k^-1.05, for k from 2.
    pub fn new(subjects: u32, hot_of_10_000: u32) -> Self {
        let hot = f64::from(hot_of_10_000) / 10_000.0;
        let weights: Vec<f64> = (2..=subjects).map(|k| zipf_weight(f64::from(k))).collect();
        let sum: f64 = weights.iter().sum();
        let mut reached = hot;
        let mut thresholds = vec![threshold(hot)];
        for weight in weights {
            reached += (1.0 - hot) * weight / sum;
            thresholds.push(threshold(reached));
        }
        Self(thresholds)
    }

    /// A rank, from 0: the lower, the more often.
    pub fn pick(&self, random: &mut Random) -> u32 {
        let drawn = random.draw();
        // The last threshold may have been rounded to just below the end of the range.
        self.0.partition_point(|threshold| *threshold <= drawn).min(self.0.len() - 1) as u32
    }
}

fn threshold(share: f64) -> u64 {
    // 2^64. Too large a product saturates.
    (share * 18_446_744_073_709_551_616.0) as u64
}

/// k^-1.05. Only with operations that IEEE 754 rounds exactly: `powf` differs between machines in the last digit.
fn zipf_weight(k: f64) -> f64 {
    1.0 / (k * twentieth_root(k))
}

/// Newton's method, from above: falls until rounding stops it. `k` must be 1 to 2^20.
fn twentieth_root(k: f64) -> f64 {
    let mut root = 2.0f64;
    loop {
        let (two, four) = (root * root, (root * root) * (root * root));
        let nineteen = four * four * four * four * two * root;
        let next = (19.0 * root + k / nineteen) / 20.0;
        if next >= root {
            return root;
        }
        root = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_law() {
        for k in [1.0, 2.0, 3.0, 10.0, 777.0, 20_000.0, 1_048_576.0f64] {
            assert!((zipf_weight(k) * k.powf(1.05) - 1.0).abs() < 1e-13, "{k}");
        }
    }

    #[test]
    fn shares_come_out() {
        let (popularity, mut random) = (Popularity::new(20_000, 1_000), Random::new(3));
        let mut counts = vec![0u32; 20_000];
        (0..1_000_000).for_each(|_| counts[popularity.pick(&mut random) as usize] += 1);
        assert!((98_500..101_500).contains(&counts[0]), "hot: {}", counts[0]);
        // (2 / 4)^-1.05 = 2.07
        let ratio = f64::from(counts[1]) / f64::from(counts[3]);
        assert!((2.0..2.15).contains(&ratio), "{ratio}");
        assert!(counts[10_000..].iter().sum::<u32>() > 20_000);
    }

    #[test]
    fn a_single_subject_gets_everything() {
        let (popularity, mut random) = (Popularity::new(1, 1_000), Random::new(3));
        assert!((0..1000).all(|_| popularity.pick(&mut random) == 0));
    }
}
