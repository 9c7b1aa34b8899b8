//! `tally send`: sends a file of events to an ingest API.
//!
//! One thread reads, one splits lines and assigns them to lanes by their actor, and each lane has one request in
//! flight, so an actor's events arrive in the order of the file. Every queue between them is bounded. Unacknowledged
//! lines are sent again, which is safe, because an event counts once.

mod client;
mod delivery;
mod input;
mod lanes;
mod report;

pub(super) use client::{IngestClient, bearer, service_uri};
pub(super) use delivery::{Batch, Delivery};
pub(super) use report::Report;

use super::Failure;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use input::Input;
use lanes::{Dealer, Pace};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Batches that may wait in front of a lane.
const LANE_QUEUE: usize = 2;
/// How often the progress bar is redrawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Arguments of `tally send`.
#[derive(Args)]
#[command(after_help = "\
Rejected events are counted and the first few are printed; they do not change the exit code, unless all events
are rejected or --strict is given. Exit codes: 0 delivered, 1 not delivered, 2 wrong usage.")]
pub struct SendArgs {
    /// File with one event per line (NDJSON); `-` for standard input
    #[arg(value_name = "FILE.ndjson")]
    file: PathBuf,
    #[command(flatten)]
    target: TargetArgs,
    /// Maximum number of events per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Maximum number of requests in flight; the events of an actor are sent one request at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    lanes: u16,
    /// Maximum number of events per request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// Append the numbers of the acknowledged lines to this file, one line per request
    #[arg(long, value_name = "FILE")]
    ack_file: Option<PathBuf>,
    /// Exit with code 1 if an event is rejected
    #[arg(long)]
    strict: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// Where events go, and how patiently.
#[derive(Args, Clone)]
pub(super) struct TargetArgs {
    /// URL of the ingest API
    #[arg(long, env = "TALLY_TO", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(super) to: String,
    /// API key, sent as `Authorization: Bearer …`
    #[arg(long, env = "TALLY_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(super) api_key: Option<String>,
    /// Give up after this time without an acknowledgement
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(super) give_up: humantime::Duration,
}

impl TargetArgs {
    pub(super) fn client(&self) -> Result<IngestClient, Failure> {
        IngestClient::new(&self.to, self.api_key.as_deref())
    }
}

/// Sends the file; fails where not all of it was delivered.
pub fn run(args: SendArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.target.give_up.into());
    if let Some(path) = &args.ack_file {
        let wrong = |e| Failure::usage(format!("{}: {e}: choose another --ack-file", path.display()));
        report = report.with_acks(OpenOptions::new().create(true).append(true).open(path).map_err(wrong)?);
    }
    let report = Arc::new(report);
    let (client, input) = (args.target.client()?, Input::open(&args.file)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::no)?;
    let outcome = runtime.block_on(send(&args, client, input, &report));
    report.print(args.json);
    outcome?;
    match (report.accepted(), report.rejected()) {
        (0, 1..) => Err(Failure::no("the ingest API has rejected every line")),
        (_, 1..) if args.strict => Err(Failure::no("")),
        _ => Ok(()),
    }
}

async fn send(args: &SendArgs, client: IngestClient, input: Input, report: &Arc<Report>) -> Result<(), Failure> {
    let (client, stop) = (Arc::new(client), CancellationToken::new());
    let (mut senders, mut lanes) = (Vec::new(), JoinSet::new());
    for _ in 0..args.lanes {
        let (sender, mut batches) = mpsc::channel::<Batch>(LANE_QUEUE);
        senders.push(sender);
        let mut delivery = Delivery::new(client.clone(), report.clone(), stop.clone());
        lanes.spawn(async move {
            while let Some(batch) = batches.recv().await {
                delivery.deliver(batch).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    let bar = progress_bar(input.size_bytes());
    let dealer = Dealer::new(senders, args.batch.into(), args.rate.map(Pace::new), report.clone(), stop.clone());
    let dealing = std::thread::spawn(move || dealer.deal(input));
    let mut draw = tokio::time::interval(DRAW_INTERVAL);
    let mut interrupt = std::pin::pin!(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Then Ctrl-C ends the process, as it does by default.
            std::future::pending::<()>().await;
        }
    });
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            ended = lanes.join_next() => match ended {
                None => break,
                Some(Ok(Ok(()))) => {}
                // The first failure is the cause; those of the other lanes follow from it.
                Some(Ok(Err(failure))) if !stop.is_cancelled() => {
                    stop.cancel();
                    outcome = Err(failure);
                }
                Some(Ok(Err(_))) => {}
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            },
            _ = draw.tick() => bar.set_position(report.bytes()),
            () = &mut interrupt, if !stop.is_cancelled() => {
                stop.cancel();
                outcome = Err(Failure::no("interrupted"));
            }
        }
    }
    bar.finish_and_clear();
    let outcome = match stop.is_cancelled() {
        // The reader may be waiting for a terminal; the process ends without it.
        true => outcome,
        false => dealing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    };
    outcome.map_err(|failure| report.how_to_resume(failure))
}

fn progress_bar(size_bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match size_bytes {
        Some(size) => (ProgressBar::new(size), "{bar:32} {percent:>3} %  {bytes} of {total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    // A template that does not parse is a mistake of ours; a plain bar is no reason to stop.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
