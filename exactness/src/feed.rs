//! What a sender is given: a workload as a file, and more of the same kind for as long as it takes.

use serde::Deserialize;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tally::workload::{LineKind, Shape, Workload};
use tally_testkit::now_ms;

/// Lines that are made up at once.
const CHUNK: u64 = 500;

/// A workload as a file, and what is known of it.
pub struct WorkloadFile {
    /// Where it is.
    pub path: PathBuf,
    /// (actor, event) by the number of its line; garbage has none.
    pub ids: HashMap<u64, (String, String)>,
    /// How many lines it has.
    pub lines: u64,
    workload: Workload,
    disorder_ms: i64,
}

#[derive(Deserialize)]
struct Ids {
    actor_id: String,
    event_id: String,
}

impl WorkloadFile {
    /// An empty one in a directory.
    pub fn new(dir: &Path, seed: u64) -> Self {
        let (path, shape) = (dir.join("workload.ndjson"), Shape::compared());
        File::create(&path).unwrap();
        let disorder_ms = shape.disorder_ms;
        // Ids differ between runs.
        let workload = Workload::new(shape, seed, format!("{seed:x}.{:x}", now_ms()));
        Self { path, ids: HashMap::new(), lines: 0, workload, disorder_ms }
    }

    /// Writes further lines. Their times are around now: how late an event comes decides what it counts in.
    fn extend(&mut self, out: &mut impl Write, lines: u64) -> io::Result<()> {
        let mut line = Vec::new();
        for _ in 0..lines {
            line.clear();
            let kind = self.workload.write_line(now_ms() - self.disorder_ms, &mut line);
            self.lines += 1;
            if kind != LineKind::Garbage {
                let Ids { actor_id, event_id } = serde_json::from_slice(&line).unwrap();
                self.ids.insert(self.lines, (actor_id, event_id));
            }
            line.push(b'\n');
            out.write_all(&line)?;
        }
        out.flush()
    }
}

/// Gives a sender a number of lines, and then more until it has been enough: whatever has to happen while something is
/// sent happens while something is sent, however fast the machine is.
pub struct Feed {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<WorkloadFile>,
}

impl Feed {
    /// `pipe` is the sender's standard input.
    pub fn start(file: WorkloadFile, lines: u64, pipe: ChildStdin) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let enough = enough.clone();
            move || feed(file, lines, pipe, &enough)
        });
        Self { enough, thread }
    }

    /// The lines are sent, and then nothing more.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    /// Waits until the sender was given all that it gets, or has ended; the file holds all of it then.
    pub fn finish(self) -> WorkloadFile {
        self.enough();
        self.thread.join().expect("the feed ends well")
    }
}

fn feed(mut file: WorkloadFile, lines: u64, mut pipe: ChildStdin, enough: &AtomicBool) -> WorkloadFile {
    let mut kept = OpenOptions::new().append(true).open(&file.path).unwrap();
    while file.lines < lines || !enough.load(Ordering::SeqCst) {
        let mut both = Both(BufWriter::new(&mut kept), &mut pipe);
        // A sender that has ended accepts no more lines and reports the reason itself.
        if file.extend(&mut both, CHUNK.min(lines.saturating_sub(file.lines).max(1))).is_err() {
            break;
        }
    }
    file
}

/// What is sent is also in the file, for a look afterwards.
struct Both<'a>(BufWriter<&'a mut File>, &'a mut ChildStdin);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write_all(bytes)?;
        self.0.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
