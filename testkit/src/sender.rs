//! `tally send`.

use crate::signal;
use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// A running `tally send`; killed when dropped.
pub struct Sender {
    child: Child,
    acks: PathBuf,
    messages: PathBuf,
    outcome: PathBuf,
}

/// How a sender ended.
pub struct Sent {
    /// The status that it ended with.
    pub status: ExitStatus,
    /// What `--json` printed.
    pub outcome: serde_json::Value,
    /// Standard error.
    pub messages: String,
    /// The numbers of the lines that the ingest API has answered for.
    pub acknowledged: HashSet<u64>,
}

impl Sender {
    /// Begins to send a file.
    pub fn spawn(binary: &Path, file: &Path, address: &str, flags: &[&str]) -> Self {
        Self::start(binary, file, file, Stdio::null(), address, flags)
    }

    /// Starts to send the lines it is given; its output is kept beside `file`.
    pub fn fed(binary: &Path, file: &Path, address: &str, flags: &[&str]) -> (Self, ChildStdin) {
        let mut sender = Self::start(binary, file, Path::new("-"), Stdio::piped(), address, flags);
        let input = sender.child.stdin.take().unwrap();
        (sender, input)
    }

    fn start(binary: &Path, file: &Path, source: &Path, input: Stdio, address: &str, flags: &[&str]) -> Self {
        let at = |name: &str| file.with_extension(name);
        let (acks, messages, outcome) = (at("acks"), at("stderr"), at("outcome"));
        let create = |path: &Path| fs::File::create(path).unwrap();
        let mut command = Command::new(binary);
        // See `Site::command`.
        command.arg0("tally");
        command.arg("send").arg(source).args(["--to", &format!("http://{address}"), "--json"]).args(flags);
        command.arg("--ack-file").arg(&acks);
        command.stdin(input).stdout(create(&outcome)).stderr(create(&messages));
        Self { child: command.spawn().unwrap(), acks, messages, outcome }
    }

    /// Nothing is sent until [`Sender::resume`], but for what is on its way.
    pub fn pause(&self) {
        signal(self.child.id(), "-STOP");
    }

    /// Undoes [`Sender::pause`].
    pub fn resume(&self) {
        signal(self.child.id(), "-CONT");
    }

    /// The lines that the ingest API has answered for so far.
    pub fn acknowledged(&self) -> HashSet<u64> {
        let text = fs::read_to_string(&self.acks).unwrap_or_default();
        text.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Sent {
        let status = self.child.wait().unwrap();
        let outcome = fs::read(&self.outcome).unwrap();
        Sent {
            status,
            outcome: serde_json::from_slice(&outcome).unwrap_or_default(),
            messages: fs::read_to_string(&self.messages).unwrap(),
            acknowledged: self.acknowledged(),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
