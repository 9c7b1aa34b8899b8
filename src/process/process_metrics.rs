//! Metrics of the process: its release, and the `process_*` metrics that every exporter has.
//!
//! Read from `/proc` on each scrape; missing on a system without it.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, GaugeVec, Opts, Registry};
use std::fs;

/// A tick of the times in `/proc`, in seconds: USER_HZ is 100 on every architecture of Linux that tally runs on.
const TICK_S: f64 = 0.01;

/// Registers both.
pub fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    let opts = Opts::new(
        "tally_build_info",
        "Always 1; the labels identify the build. `revision` is TALLY_REVISION at build time, or `unknown`.",
    );
    let build = GaugeVec::new(opts, &["version", "revision"])?;
    // A release build can set the commit.
    let revision = option_env!("TALLY_REVISION").unwrap_or("unknown");
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), revision]).set(1.0);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessMetrics::new()?))
}

struct ProcessMetrics {
    cpu: Counter,
    start: Gauge,
    resident: Gauge,
    virtual_: Gauge,
    open_files: Gauge,
    max_files: Gauge,
    threads: Gauge,
}

impl ProcessMetrics {
    fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time.")?,
            start: Gauge::new("process_start_time_seconds", "Start time of the process since 1970.")?,
            resident: Gauge::new("process_resident_memory_bytes", "Resident memory.")?,
            virtual_: Gauge::new("process_virtual_memory_bytes", "Virtual address space.")?,
            open_files: Gauge::new("process_open_fds", "Open file descriptors.")?,
            max_files: Gauge::new("process_max_fds", "Limit of open file descriptors.")?,
            threads: Gauge::new("process_threads", "Threads.")?,
        };
        // It does not change.
        metrics.start.set(start_s().unwrap_or_default());
        Ok(metrics)
    }

    fn all(&self) -> [&dyn Collector; 7] {
        [&self.cpu, &self.start, &self.resident, &self.virtual_, &self.open_files, &self.max_files, &self.threads]
    }

    fn update(&self) -> Option<()> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let cpu_s = (field(&stat, 14)? + field(&stat, 15)?) * TICK_S;
        self.cpu.inc_by((cpu_s - self.cpu.get()).max(0.0));
        self.threads.set(field(&stat, 20)?);
        self.virtual_.set(field(&stat, 23)?);
        let status = fs::read_to_string("/proc/self/status").ok()?;
        self.resident.set(number_behind(&status, "VmRSS:")? * 1024.0);
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        self.max_files.set(number_behind(&limits, "Max open files").unwrap_or(f64::INFINITY));
        // One of them is the directory itself.
        self.open_files.set(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64);
        Some(())
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(|metric| metric.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.update() {
            Some(()) => self.all().into_iter().flat_map(|metric| metric.collect()).collect(),
            None => Vec::new(),
        }
    }
}

/// A field of `/proc/self/stat`, from 1. The second one is a name in parentheses, and may hold anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    behind_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// The first number of the line with this prefix.
fn number_behind(text: &str, begin: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(begin))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn start_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot_s = number_behind(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
    Some(boot_s + field(&stat, 22)? * TICK_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name_whatever_that_holds() {
        let rest: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        for name in ["tally", "a b", ") 7 (", "()"] {
            let stat = format!("123 ({name}) {}", rest.join(" "));
            assert_eq!([field(&stat, 14), field(&stat, 22)], [Some(14.0), Some(22.0)], "{name}");
            assert_eq!([field(&stat, 99), field("", 3)], [None, None]);
        }
        let limits =
            "Limit  Soft Limit\nMax processes  unlimited  x\nMax open files            1024      4096   files\n";
        assert_eq!(number_behind(limits, "Max open files"), Some(1024.0));
        assert_eq!(number_behind(limits, "Max processes"), None);
    }

    #[test]
    fn process_metrics_are_measured_on_request() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let value = |name: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name);
            let metric = &family.unwrap_or_else(|| panic!("no {name}")).get_metric()[0];
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        assert_eq!(value("tally_build_info"), 1.0);
        let now_s = super::super::now_ms() as f64 / 1_000.0;
        assert!((0.0..86_400.0).contains(&(now_s - value("process_start_time_seconds"))));
        let files = value("process_open_fds");
        let _held = fs::File::open("/proc/self/stat").unwrap();
        assert!(value("process_open_fds") >= 1.0 && value("process_max_fds") >= files);
        assert!(value("process_resident_memory_bytes") > 1e5 && value("process_threads") >= 1.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        let before = value("process_cpu_seconds_total");
        // Until the clock of the kernel has gone on.
        while value("process_cpu_seconds_total") == before {
            std::hint::black_box((0..100_000u64).sum::<u64>());
        }
    }
}
