//! `tally demo`: seeded synthetic traffic, sent to an ingest API or written to a file.

use super::Failure;
use super::send::{Batch, Delivery, IngestClient, Report, TargetArgs};
use crate::workload::{Plan, Shape, Workload};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// How often events are sent.
const TICK: Duration = Duration::from_millis(50);
/// What was missed further back than this, because the ingest API was unavailable, is left out.
const LAG_MAX: Duration = Duration::from_secs(1);
/// The most events that an ingest API takes at once.
const BATCH_MAX: u64 = 1_000;
/// How long the traffic of `--demo` waits for its ingest API.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Arguments of `tally demo`.
#[derive(Args)]
pub struct DemoArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Events per second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seed; the same seed generates the same traffic
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Stop after this many seconds
    #[arg(long, value_name = "N|forever", default_value = "forever")]
    seconds: Seconds,
    /// Stop after this many events; with --write, the number of lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// Write the events to a file for `tally send` instead of sending them; `-` for standard output
    #[arg(long, value_name = "FILE", requires = "events", conflicts_with_all = ["rate", "seconds", "give_up"])]
    write: Option<PathBuf>,
    /// Size of the workload; demo by default, full with --write
    #[arg(long, value_enum)]
    shape: Option<ShapeName>,
    /// With --write, the time of the last event (RFC 3339); now by default
    #[arg(long, value_name = "TIME", requires = "write")]
    end: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShapeName {
    /// 2,000 actors, 200 subjects
    Demo,
    /// 200,000 actors, 20,000 subjects
    Full,
}

#[derive(Clone, Copy)]
enum Seconds {
    Forever,
    Some(u64),
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("forever", _) => Ok(Self::Forever),
            (_, Ok(seconds)) => Ok(Self::Some(seconds)),
            _ => Err("must be a whole number of seconds, or `forever`".to_owned()),
        }
    }
}

impl ShapeName {
    fn shape(self) -> Shape {
        match self {
            Self::Demo => Shape::demo(),
            Self::Full => Shape::full(),
        }
    }
}

/// Sends until it is stopped, or writes a file.
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    if let Some(path) = &args.write {
        // The environment may set them for other commands.
        let said = std::env::args().find(|arg| ["--to", "--api-key"].iter().any(|flag| is_flag(arg, flag)));
        if let Some(flag) = said {
            let flag = flag.split('=').next().unwrap_or_default();
            return Err(Failure::usage(format!("{flag}: with --write nothing is sent: leave out one of them")));
        }
        return write(&args, path);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::no)?;
    let report = Arc::new(Report::new(args.target.give_up.into()));
    let stop = CancellationToken::new();
    let shape = args.shape.unwrap_or(ShapeName::Demo).shape();
    let mut traffic = Traffic::new(args.target.client()?, shape, args.seed, report.clone(), stop.clone());
    traffic.rate = args.rate;
    traffic.events_max = args.events;
    if let Seconds::Some(seconds) = args.seconds {
        traffic.seconds_max = Some(Duration::from_secs(seconds));
    }
    let outcome = runtime.block_on(async {
        let (mut sent, mut told) = (std::pin::pin!(traffic.run()), tokio::time::interval(Duration::from_secs(1)));
        told.tick().await;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            tokio::select! {
                outcome = &mut sent => return outcome,
                _ = told.tick() => if io::stdout().is_terminal() { println!("{}", report.summary()) },
                _ = &mut interrupt, if !stop.is_cancelled() => stop.cancel(),
            }
        }
    });
    println!("{}", report.summary());
    outcome
}

fn is_flag(arg: &str, flag: &str) -> bool {
    arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

fn write(args: &DemoArgs, path: &Path) -> Result<(), Failure> {
    let end_ms = match &args.end {
        Some(text) => tally_model::parse_ms(text)
            .ok_or_else(|| Failure::usage(format!("--end {text}: must be a time like 2026-11-21T08:00:00Z")))?,
        None => now_ms(),
    };
    let shape = args.shape.unwrap_or(ShapeName::Full).shape();
    let plan = Plan { shape, ..Plan::full(args.events.unwrap_or_default(), args.seed, end_ms) };
    let name = path.display();
    let file: Box<dyn Write> = match path.as_os_str() == "-" {
        true => Box::new(io::stdout().lock()),
        false => Box::new(File::create(path).map_err(|e| Failure::usage(format!("{name}: {e}")))?),
    };
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let written = plan.write(&mut file).and_then(|()| file.flush());
    written.map_err(|e| Failure::no(format!("{name}: {e}")))
}

/// Synthetic traffic from a small town to the ingest API at `to`, until `stop`; fails if the ingest API stays unavailable.
pub async fn traffic(to: String, rate: u32, seed: u64, stop: CancellationToken) -> Result<(), Failure> {
    let report = Arc::new(Report::new(GIVE_UP));
    let mut traffic = Traffic::new(IngestClient::new(&to, None)?, Shape::demo(), seed, report, stop);
    traffic.rate = rate.max(1);
    traffic.run().await
}

struct Traffic {
    delivery: Delivery,
    workload: Workload,
    disorder_ms: i64,
    rate: u32,
    events_max: Option<u64>,
    seconds_max: Option<Duration>,
    stop: CancellationToken,
}

impl Traffic {
    fn new(client: IngestClient, shape: Shape, seed: u64, report: Arc<Report>, stop: CancellationToken) -> Self {
        let disorder_ms = shape.disorder_ms;
        // Another run of the same seed does the same at other times: those are other events.
        let workload = Workload::new(shape, seed, format!("{seed:x}.{:x}", now_ms()));
        let delivery = Delivery::new(Arc::new(client), report, stop.clone());
        Self { delivery, workload, disorder_ms, rate: 1, events_max: None, seconds_max: None, stop }
    }

    async fn run(mut self) -> Result<(), Failure> {
        let (mut tick, mut begun, mut sent) = (tokio::time::interval(TICK), Instant::now(), 0);
        let (start, per_event) = (begun, Duration::from_secs(1) / self.rate);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            if self.seconds_max.is_some_and(|max| start.elapsed() >= max) {
                return Ok(());
            }
            let due = (begun.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
            let missed = due.saturating_sub((LAG_MAX.as_secs_f64() * f64::from(self.rate)) as u64);
            if sent < missed {
                begun += per_event * u32::try_from(missed - sent).unwrap_or(u32::MAX);
                continue;
            }
            let end = due.min(self.events_max.unwrap_or(u64::MAX));
            while sent < end && !self.stop.is_cancelled() {
                let batch = self.batch((end - sent).min(BATCH_MAX));
                sent += batch.numbers.len() as u64;
                match self.delivery.deliver(batch).await {
                    // The last ones are not missed.
                    Err(_) if self.stop.is_cancelled() => return Ok(()),
                    outcome => outcome?,
                }
            }
            if self.events_max.is_some_and(|max| sent >= max) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn batch(&mut self, events: u64) -> Batch {
        let (mut batch, time_ms) = (Batch::default(), now_ms() - self.disorder_ms);
        for number in 1..=events {
            self.workload.write_line(time_ms, &mut batch.lines);
            batch.lines.push(b'\n');
            batch.numbers.push(number);
        }
        batch
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
