//! Compares a benchmark with the baseline that the repository keeps, `benches/baseline.json`.
//!
//! What is compared is the CPU time of a measurement, divided by that of the plain loop of the same run: a slower or
//! busier machine slows down both. The ratio depends on the number of events, so only runs of the same number are
//! compared.

use crate::repository;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitCode;

/// A ratio that differs by more than this fraction of the baseline has moved.
pub const NOISE: f64 = 0.15;

/// The baseline's file, seen from the repository.
const FILE: &str = "benches/baseline.json";
/// The argument of a benchmark that writes its ratios to the file instead of comparing them.
const WRITE: &str = "--write-baseline";

/// Above the names of the measurements: what the figures are.
const HEADER: &str = "x plain loop";

/// The ratios of one run of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratios {
    /// How many events were measured.
    pub events: u64,
    /// CPU time relative to the plain loop, by the name of the measurement.
    pub by_name: BTreeMap<String, f64>,
}

/// The ratios that the repository keeps, by the name of the benchmark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline(pub BTreeMap<String, Ratios>);

/// How a measurement compares with the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Within the noise.
    Same,
    /// It costs more.
    Slower,
    /// It costs less.
    Faster,
    /// The baseline does not have it.
    New,
    /// Only the baseline has it.
    Missing,
}

/// A run beside its baseline.
pub struct Comparison<'a> {
    baseline: &'a Ratios,
    now: &'a Ratios,
}

impl Ratios {
    /// Ratios by name.
    pub fn new<N: Into<String>>(events: u64, ratios: impl IntoIterator<Item = (N, f64)>) -> Self {
        Self { events, by_name: ratios.into_iter().map(|(name, ratio)| (name.into(), ratio)).collect() }
    }
}

impl Baseline {
    /// Reads `{"benchmark": {"events": 1000, "ratios": {"name": 1.5}}}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let benchmarks: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        benchmarks
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), ratios(&name, &value)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The same as text, one ratio a line.
    pub fn to_text(&self) -> String {
        let rounded = |(name, ratio): (&String, &f64)| (name.clone(), json!((ratio * 1e3).round() / 1e3));
        let benchmark = |(name, of): (&String, &Ratios)| {
            let ratios: Map<_, _> = of.by_name.iter().map(rounded).collect();
            (name.clone(), json!({ "events": of.events, "ratios": ratios }))
        };
        format!("{:#}\n", Value::Object(self.0.iter().map(benchmark).collect()))
    }
}

fn ratios(benchmark: &str, value: &Value) -> Result<Ratios, String> {
    let events = value["events"].as_u64().ok_or_else(|| format!("`{benchmark}`: `events` is not a number"))?;
    let ratios = value["ratios"].as_object().ok_or_else(|| format!("`{benchmark}`: `ratios` is not an object"))?;
    let ratio = |(name, ratio): (&String, &Value)| {
        let ratio = ratio.as_f64().filter(|ratio| *ratio > 0.0);
        ratio.map(|ratio| (name.clone(), ratio)).ok_or_else(|| format!("`{benchmark}`: `{name}` is not a ratio"))
    };
    Ok(Ratios { events, by_name: ratios.iter().map(ratio).collect::<Result<_, _>>()? })
}

impl<'a> Comparison<'a> {
    /// A run beside its baseline. None where they measured different numbers of events.
    pub fn new(baseline: &'a Ratios, now: &'a Ratios) -> Option<Self> {
        (baseline.events == now.events).then_some(Self { baseline, now })
    }

    /// Every measurement of either, by name.
    pub fn outcomes(&self) -> Vec<(&'a str, Outcome)> {
        self.names().into_iter().map(|name| (name, self.outcome(name))).collect()
    }

    /// Whether something costs more than it did, or is no longer measured.
    pub fn is_worse(&self) -> bool {
        self.outcomes().iter().any(|(_, outcome)| matches!(outcome, Outcome::Slower | Outcome::Missing))
    }

    fn names(&self) -> BTreeSet<&'a str> {
        self.baseline.by_name.keys().chain(self.now.by_name.keys()).map(String::as_str).collect()
    }

    fn outcome(&self, name: &str) -> Outcome {
        match (self.baseline.by_name.get(name), self.now.by_name.get(name)) {
            (None, _) => Outcome::New,
            (_, None) => Outcome::Missing,
            (Some(baseline), Some(now)) if *now > baseline * (1.0 + NOISE) => Outcome::Slower,
            (Some(baseline), Some(now)) if *now < baseline * (1.0 - NOISE) => Outcome::Faster,
            _ => Outcome::Same,
        }
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let width = names.iter().copied().chain([HEADER]).map(|name| name.chars().count()).max().unwrap_or(0);
        writeln!(f, "  {:<width$}  {:>8}  {:>8}  {:>7}", HEADER, "baseline", "now", "change")?;
        for (name, outcome) in self.outcomes() {
            let (baseline, now) = (self.baseline.by_name.get(name), self.now.by_name.get(name));
            let shown = |ratio: Option<&f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let change = baseline.zip(now).map(|(baseline, now)| format!("{:+.0} %", (now / baseline - 1.0) * 100.0));
            let change = change.unwrap_or_else(|| "-".to_owned());
            write!(f, "  {name:<width$}  {:>8}  {:>8}  {change:>7}", shown(baseline), shown(now))?;
            writeln!(
                f,
                "{}",
                match outcome {
                    Outcome::Same => "",
                    Outcome::Slower => "  slower",
                    Outcome::Faster => "  faster",
                    Outcome::New => "  new",
                    Outcome::Missing => "  no longer measured",
                }
            )?;
        }
        let moved = self.outcomes().iter().filter(|(_, outcome)| *outcome != Outcome::Same).count();
        let noise = NOISE * 100.0;
        match moved {
            0 => write!(f, "  nothing moved by more than {noise:.0} %"),
            1 => write!(f, "  1 measurement moved by more than {noise:.0} %, or is in one of them alone"),
            moved => write!(f, "  {moved} measurements moved by more than {noise:.0} %, or are in one of them alone"),
        }
    }
}

/// Prints a run beside its baseline; with `--write-baseline` among the arguments, makes it the baseline. The exit code is 1
/// where something costs more than it did.
pub fn report(benchmark: &str, now: Ratios) -> ExitCode {
    let path = repository().join(FILE);
    let mut baseline = match std::fs::read_to_string(&path) {
        Ok(text) => Baseline::parse(&text).unwrap_or_else(|error| panic!("{FILE}: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Baseline::default(),
        Err(error) => panic!("{FILE}: {error}"),
    };
    if std::env::args().any(|argument| argument == WRITE) {
        baseline.0.insert(benchmark.to_owned(), now);
        std::fs::write(&path, baseline.to_text()).unwrap_or_else(|error| panic!("{FILE}: {error}"));
        println!("{benchmark}: written to {FILE}");
        return ExitCode::SUCCESS;
    }
    let Some(of_benchmark) = baseline.0.get(benchmark) else {
        println!("{benchmark}: {FILE} has no ratios of it; `make bench-baseline` writes them");
        return ExitCode::SUCCESS;
    };
    match Comparison::new(of_benchmark, &now) {
        Some(comparison) => {
            println!("{benchmark}, compared with {FILE}:\n{comparison}");
            ExitCode::from(u8::from(comparison.is_worse()))
        }
        None => {
            println!("{benchmark}: not compared: {FILE} has the ratios of {} events", of_benchmark.events);
            ExitCode::SUCCESS
        }
    }
}
