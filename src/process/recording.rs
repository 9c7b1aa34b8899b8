//! Records the topology file of a process in the log, which `tally plan` compares a changed file with.

use crate::commands::TopologyFile;
use tally_processors::Actions;
use tally_streams::log::Log;
use tally_streams::runtime::record_topology;
use tally_streams::topology::Topology;

/// Records the file. Nothing else depends on it, so a failure is only reported.
pub fn record(log: &dyn Log, topology: &Topology<Actions>, file: &TopologyFile) {
    let Ok((_, text)) = file.read() else { return };
    let Some(text) = without_passwords(&text, topology) else {
        tracing::warn!("the topology file is not recorded for `tally plan`: a password in it cannot be left out");
        return;
    };
    if let Err(error) = record_topology(log, &topology.settings.application, &text) {
        tracing::warn!(%error, "the topology file is not recorded for `tally plan`");
    }
}

/// The file with a `-` for every password in an address of a sink. None where the file does not have an address as it reads.
fn without_passwords(file: &str, topology: &Topology<Actions>) -> Option<String> {
    let mut text = file.to_owned();
    for url in topology.sinks.iter().filter_map(|sink| sink.url.as_ref()) {
        let written = url.written();
        let Some((login, host)) = written.rsplit_once('@') else { continue };
        // The address of a file has no password.
        let Some(scheme) = login.find("//").map(|slashes| slashes + 2) else { continue };
        let Some(colon) = login[scheme..].find(':') else { continue };
        let shown = format!("{}:-@{host}", &login[..scheme + colon]);
        if !text.contains(written) && !text.contains(&shown) {
            return None;
        }
        text = text.replace(written, &shown);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_processors::REGISTRY;
    use tally_sinks::SINK_TYPES;

    #[test]
    fn a_recorded_file_is_the_file_without_passwords() {
        let (text, _) = include_str!("../../topology.yaml").split_once("\nsinks:").unwrap();
        for (written, recorded) in [
            ("sqlite:a@b.db", Some("sqlite:a@b.db")),
            ("mysql://tally:se@cret@host/db", Some("mysql://tally:-@host/db")),
            ("mysql://tally:${PASSWORD}@host/db", Some("mysql://tally:-@host/db")),
            ("mysql://tally@host/db", Some("mysql://tally@host/db")),
            ("mysql://tally:se\\u0063ret@host/db", None),
        ] {
            let sinks =
                |url: &str| format!("{text}\nsinks:\n  a: {{ type: database, from: counters, url: \"{url}\" }}\n");
            let file = sinks(written);
            let topology = Topology::load("t", &file, REGISTRY, SINK_TYPES).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(without_passwords(&file, &topology), recorded.map(sinks), "{written}");
        }
    }
}
