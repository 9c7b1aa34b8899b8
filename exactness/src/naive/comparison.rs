//! The model held against what was stored and what is served.

use super::{DAY_MS, Model, Stored};
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::process::ExitCode;

/// Up to here the number of distinct visitors is exact.
const EXACT_VISITORS_MAX: usize = 256;
const RMSE_MAX: f64 = 0.01;
const WORST_MAX: f64 = 0.04;
/// Differences that are written out.
const SHOWN_MAX: usize = 20;

/// What differs; nothing, if all is well. And how much was compared, so that an empty comparison does not pass.
#[derive(Default)]
pub struct Differences {
    /// How many of each were compared.
    pub compared: BTreeMap<&'static str, usize>,
    /// The largest root mean square of the relative errors of estimates.
    pub rmse: f64,
    /// The largest relative error of an estimate.
    pub worst: f64,
    shown: Vec<String>,
    count: usize,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Prints them, and whether there are any; the exit code.
    pub fn report(&self) -> ExitCode {
        println!("{}exact: {self}", if self.is_empty() { "" } else { "NOT " });
        ExitCode::from(u8::from(!self.is_empty()))
    }

    /// Adds a difference.
    pub fn add(&mut self, difference: String) {
        self.count += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(difference);
        }
    }

    /// Adds to the number of compared values.
    pub fn compared(&mut self, what: &'static str, count: usize) {
        *self.compared.entry(what).or_default() += count;
    }

    /// Every key of either side.
    fn compare<K: Hash + Eq + Debug, V: PartialEq + Debug>(
        &mut self,
        what: &'static str,
        expected: &HashMap<K, V>,
        found: &HashMap<K, V>,
    ) {
        self.compared(what, expected.len());
        for (key, value) in expected {
            match found.get(key) {
                Some(other) if other == value => {}
                other => self.add(format!("{what} {key:?}: {other:?} is stored, {value:?} is right")),
            }
        }
        for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
            self.add(format!("{what} {key:?}: {value:?} is stored, nothing is right"));
        }
    }

    fn compare_visitors<K: Hash + Eq + Debug>(
        &mut self,
        what: &'static str,
        expected: &HashMap<K, usize>,
        found: &HashMap<K, i64>,
    ) {
        self.compared(what, expected.len());
        let mut errors = Vec::new();
        for (subject, exact) in expected {
            let value = found.get(subject).copied().unwrap_or(0);
            let error = (value as f64 - *exact as f64).abs() / *exact as f64;
            if *exact > EXACT_VISITORS_MAX {
                errors.push(error);
            } else if error != 0.0 {
                self.add(format!("{what} of {subject:?}: {value} is stored, {exact} is right"));
            }
            if error > WORST_MAX {
                self.add(format!("{what} of {subject:?}: {value} is stored, {exact} is right: too far off"));
            }
        }
        for (subject, value) in found.iter().filter(|(subject, _)| !expected.contains_key(*subject)) {
            self.add(format!("{what} of {subject:?}: {value} is stored, without an event"));
        }
        self.compared("visitors that are estimates", errors.len());
        let rmse = match errors.is_empty() {
            true => 0.0,
            false => (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt(),
        };
        if rmse > RMSE_MAX {
            self.add(format!("{what}: the estimates' RMSE is {:.2} %", rmse * 100.0));
        }
        self.rmse = self.rmse.max(rmse);
        self.worst = errors.iter().copied().fold(self.worst, f64::max);
    }
}

impl Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.shown {
            writeln!(f, "{line}")?;
        }
        let compared: Vec<_> = self.compared.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let (rmse, worst) = (self.rmse * 100.0, self.worst * 100.0);
        write!(
            f,
            "{} differences in {}; estimates: RMSE {rmse:.2} %, worst {worst:.2} %",
            self.count,
            compared.join(", ")
        )
    }
}

/// How many have collected each subject, by actor and subject.
pub fn collect_counts(collects: &HashMap<(String, String), (i64, bool)>) -> HashMap<String, i64> {
    let mut counts = HashMap::new();
    for ((_, subject), (_, active)) in collects {
        *counts.entry(subject.clone()).or_default() += i64::from(*active);
    }
    counts
}

/// Every table of the database.
pub fn compare_stored(model: &Model, stored: &Stored, differences: &mut Differences) {
    let expected = model.counters.iter().filter(|(_, value)| **value != 0);
    let expected: HashMap<_, _> = expected.map(|((s, m), v)| ((s.clone(), (*m).to_owned()), *v)).collect();
    // A like that was taken back within one commit leaves no row: zero and nothing are the same.
    let (visitors, found): (HashMap<_, _>, HashMap<_, _>) = stored
        .counters
        .iter()
        .filter(|(_, v)| **v != 0)
        .map(|(k, v)| (k.clone(), *v))
        .partition(|((_, m), _)| m == "visitors");
    differences.compare("counters", &expected, &found);

    let windows = model.windows.iter().map(|((s, m, l, b), v)| ((s.clone(), (*m).to_owned(), *l, *b), *v)).collect();
    let (found_visitors, found): (HashMap<_, _>, HashMap<_, _>) =
        stored.windows.iter().map(|(k, v)| (k.clone(), *v)).partition(|((_, m, ..), _)| m == "visitors");
    differences.compare("windows", &windows, &found);
    let found =
        found_visitors.into_iter().map(|((subject, _, length, start), v)| ((subject, length, start), v)).collect();
    let daily = model.daily_visitors.iter();
    let daily = daily.map(|((subject, start), actors)| ((subject.clone(), DAY_MS, *start), actors.len())).collect();
    differences.compare_visitors("visitors by day", &daily, &found);

    let reactions = model.reactions.iter();
    let reactions = reactions.map(|((a, m, s), r)| ((a.clone(), (*m).to_owned(), s.clone()), r.clone())).collect();
    differences.compare("reactions", &reactions, &stored.reactions);

    differences.compare("collects", &model.collects, &stored.collects);
    let counts = collect_counts(&stored.collects);
    // A subject whose last change was undone in the transaction that made it first has no row: zero and nothing are the
    // same.
    let some =
        |counts: &HashMap<String, i64>| counts.iter().filter(|(_, n)| **n != 0).map(|(s, n)| (s.clone(), *n)).collect();
    differences.compare("collect counts", &some(&counts), &some(&stored.collect_counts));

    differences.compare("verdicts", &model.verdicts, &stored.verdicts);

    let letters = |places: &mut dyn Iterator<Item = (u32, u64)>| {
        let mut counts = HashMap::new();
        places.for_each(|place| *counts.entry(place).or_insert(0) += 1);
        counts
    };
    let dead = letters(&mut model.dead_letters.iter().copied());
    differences.compare("dead letters", &dead, &letters(&mut stored.dead_letters.iter().copied()));

    let visitors: HashMap<_, _> = visitors.into_iter().map(|((subject, _), value)| (subject, value)).collect();
    let exact = model.visitors.iter().map(|(subject, actors)| (subject.clone(), actors.len())).collect();
    differences.compare_visitors("visitors", &exact, &visitors);
}

/// The API's answer for some subjects: every metric it names, and none missing that was counted.
pub fn compare_counters(model: &Model, served: &HashMap<String, BTreeMap<String, i64>>, differences: &mut Differences) {
    differences.compared("subjects served", served.len());
    for (subject, counters) in served {
        let mut expected: BTreeMap<String, i64> = counters.keys().map(|metric| (metric.clone(), 0)).collect();
        let counted = model.counters.iter().filter(|((s, _), _)| s == subject);
        expected.extend(counted.map(|((_, metric), value)| ((*metric).to_owned(), *value)));
        let visitors = model.visitors.get(subject).map_or(0, |actors| actors.len());
        expected.insert("visitors".to_owned(), visitors as i64);
        let mut found = counters.clone();
        let estimate = found.get("visitors").copied().unwrap_or_default();
        if visitors > EXACT_VISITORS_MAX && (estimate - visitors as i64).abs() as f64 <= WORST_MAX * visitors as f64 {
            found.insert("visitors".to_owned(), visitors as i64);
        }
        if found != expected {
            differences.add(format!("{subject}: {found:?} is served, {expected:?} is right"));
        }
    }
}
