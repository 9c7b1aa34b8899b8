//! The clocks of a process: checked continuously, and compared with the log at the start.

use super::log;
use super::watch::Watch;
use crate::commands::{ClockArgs, Failure, SiteArgs};
use prometheus::{IntGauge, Registry};
use std::sync::Arc;
use std::time::Duration;
use tally_http::Check;
use tally_processors::Actions;
use tally_streams::log::{Doubt, Log, LogError, Now, TopicPartition, WallClock, WallLimits, last_records};
use tally_streams::runtime::{Control, confirm};
use tally_streams::task::ConfirmedTime;
use tally_streams::topology::Topology;

/// Between two checks of the clocks.
const WATCH: Duration = Duration::from_secs(1);

/// The clocks of the system, judged by the limits of the flags; roles that do not read them have no such flags.
pub fn wall_clock(args: Option<&ClockArgs>) -> Arc<WallClock> {
    let limits = args.map_or_else(WallLimits::default, ClockArgs::limits);
    Arc::new(WallClock::new(Arc::new(Now::of_system), limits))
}

/// The message for an operator about a clock in doubt.
pub fn advice(doubt: Doubt) -> String {
    let advice = match doubt {
        Doubt::Jumped(_) => "nothing is taken until it is right again, or has kept its new time for --clock-settle",
        Doubt::Behind(_) => {
            "nothing is taken until it has caught up; where it is right and the log's time was ahead, stop all processes and \
             start one with --confirm-clock"
        }
    };
    format!("{doubt}: {advice} (docs/operations.md, Clocks)")
}

/// Checks the clocks at regular intervals, and reports.
pub struct ClockWatch {
    wall: Arc<WallClock>,
    _watch: Watch,
}

impl ClockWatch {
    /// Starts checking.
    pub fn start(wall: Arc<WallClock>, registry: &Registry) -> Result<Self, Failure> {
        let gauge = IntGauge::new(
            "tally_clock_in_doubt",
            "1 while the wall clock is not trusted: it has jumped, or is behind the log.",
        )
        .map_err(Failure::no)?;
        registry.register(Box::new(gauge.clone())).map_err(Failure::no)?;
        let (watched, mut doubted) = (wall.clone(), None);
        let mut look = move || {
            let doubt = watched.read().doubt;
            let kind = doubt.map(|doubt| std::mem::discriminant(&doubt));
            if doubted != kind {
                match doubt {
                    Some(doubt) => tracing::error!("{}", advice(doubt)),
                    None => tracing::info!("the wall clock is trusted again"),
                }
                doubted = kind;
            }
            gauge.set(i64::from(doubt.is_some()));
        };
        look();
        let watch = Watch::start("clock-watch", WATCH, look).map_err(Failure::no)?;
        Ok(Self { wall, _watch: watch })
    }

    /// Whether the clock can be trusted.
    pub fn check(&self) -> Check {
        let wall = self.wall.clone();
        Check::at_once("the wall clock", move || wall.read().doubt.map_or(Ok(()), |doubt| Err(advice(doubt))))
    }
}

/// Compares the clock with the last records of the root topic. If an operator confirms that it is right although the
/// log's time is ahead, that becomes part of the control record.
pub fn hold_against_log(
    args: &SiteArgs,
    topology: &Topology<Actions>,
    log: &dyn Log,
    control: Control,
    wall: &WallClock,
    is_confirmed: bool,
) -> Result<Control, Failure> {
    let failed = |error: LogError| log::failure(&args.log, error);
    let partitions = topology.subtopologies[0].partitions;
    let places: Vec<_> = (0..partitions).map(|number| TopicPartition::new(topology.root.clone(), number)).collect();
    let last = last_records(log, &places).map_err(failed)?;
    let last = (0..).zip(last).filter_map(|(partition, last)| last.map(|(offset, ms)| (partition, offset, ms)));
    let log_ms = last.map(|(partition, offset, ms)| time_of(&control, partition, offset, ms)).max();
    match control.confirmed_times.iter().map(|time| time.clock_ms).max() {
        // The log's own time is that of before the confirmation.
        Some(confirmed_ms) => wall.set_log_time(log_ms.unwrap_or(confirmed_ms).max(confirmed_ms)),
        None => log_ms.iter().for_each(|ms| wall.has_appended(*ms)),
    }
    if !is_confirmed {
        return Ok(control);
    }
    let (clock_ms, log_ms) = (wall.read().now.wall_ms, wall.log_time_ms());
    if log_ms <= clock_ms {
        tracing::info!("--confirm-clock: the log's time is not ahead, so there is nothing to confirm");
        return Ok(control);
    }
    let group = &topology.settings.application;
    let ends = log.written_ends(&places).map_err(failed)?;
    let confirmed = places.iter().zip(ends).map(|(at, until_offset)| {
        let committed = log.committed(group, at)?.map(|committed| committed.offset);
        let from_offset = committed.map_or_else(|| log.bounds(at).map(|(start, _)| start), Ok)?;
        Ok(ConfirmedTime { partition: at.partition, from_offset, until_offset, clock_ms, log_ms })
    });
    let confirmed = confirmed.collect::<Result<Vec<_>, LogError>>().map_err(failed)?;
    let control = confirm(log, group, confirmed).map_err(|error| log::control_failure(&args.log, error))?;
    wall.set_log_time(clock_ms);
    let ahead_s = (log_ms - clock_ms) / 1_000;
    tracing::warn!(ahead_s, "--confirm-clock: the log's time was ahead and continues from the wall clock");
    Ok(control)
}

/// When the log took a record, as far as that was confirmed.
fn time_of(control: &Control, partition: u32, offset: u64, append_time_ms: i64) -> i64 {
    let of = control.confirmed_times.iter().filter(|time| time.partition == partition && offset < time.until_offset);
    of.map(|time| time.clock_ms).min().map_or(append_time_ms, |latest_ms| latest_ms.min(append_time_ms))
}
