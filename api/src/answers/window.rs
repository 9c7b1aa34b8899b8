//! Names of windows in requests and answers.

use tally_model::WindowSpec;
use tally_streams::topology::ConfigDuration;

/// A window as requests name it, with the durations of the topology: `1h`, `hopping:1h:5m`, `session:30m:12h`,
/// `sliding:10s`.
pub fn window_name(window: WindowSpec) -> String {
    let duration = ConfigDuration::from_ms;
    match window {
        WindowSpec::Tumbling { size_ms } => duration(size_ms).to_string(),
        WindowSpec::Hopping { size_ms, every_ms } => format!("hopping:{}:{}", duration(size_ms), duration(every_ms)),
        WindowSpec::Session { gap_ms, max_ms } => format!("session:{}:{}", duration(gap_ms), duration(max_ms)),
        WindowSpec::Sliding { size_ms } => format!("sliding:{}", duration(size_ms)),
    }
}
