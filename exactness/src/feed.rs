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
use tally::workload::{LineKind, Plan};
use tally_testkit::now_ms;

/// Lines that are made up at once when the file is over.
const MORE: u64 = 2_000;

/// A workload as a file, and what is known of it.
pub struct WorkloadFile {
    /// Where it is.
    pub path: PathBuf,
    /// (actor, event) by the number of its line; garbage has none.
    pub ids: HashMap<u64, (String, String)>,
    /// How many lines it has.
    pub lines: u64,
    seed: u64,
}

#[derive(Deserialize)]
struct Ids {
    actor_id: String,
    event_id: String,
}

impl WorkloadFile {
    /// Writes it into a directory. Times end now.
    pub fn write(dir: &Path, events: u64, seed: u64) -> Self {
        let path = dir.join("workload.ndjson");
        let mut file = BufWriter::new(File::create(&path).unwrap());
        let mut written = Self { path, ids: HashMap::new(), lines: 0, seed };
        written.extend(&mut file, events, || true).unwrap();
        written
    }

    /// Writes `events` further lines, or fewer if `goes_on` returns false.
    fn extend(&mut self, out: &mut impl Write, events: u64, goes_on: impl Fn() -> bool) -> io::Result<()> {
        // Another seed for each part, so that the ids differ.
        let seed = self.seed ^ (self.lines << 20);
        let written = Plan::full(events, seed, now_ms()).for_each(|kind, line| {
            if !goes_on() {
                return Err(None);
            }
            out.write_all(line).and_then(|()| out.write_all(b"\n")).map_err(Some)?;
            self.lines += 1;
            if kind != LineKind::Garbage {
                let Ids { actor_id, event_id } = serde_json::from_slice(line).unwrap();
                self.ids.insert(self.lines, (actor_id, event_id));
            }
            Ok(())
        });
        match written {
            Ok(()) | Err(None) => out.flush(),
            Err(Some(error)) => Err(error),
        }
    }
}

/// Gives a sender the lines of a file, and then more until it has been enough: whatever has to happen while something is
/// sent happens while something is sent, however fast the machine is.
pub struct Feed {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<WorkloadFile>,
}

impl Feed {
    /// `pipe` is the sender's standard input.
    pub fn start(file: WorkloadFile, pipe: ChildStdin) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let enough = enough.clone();
            move || feed(file, pipe, &enough)
        });
        Self { enough, thread }
    }

    /// The file is sent to its end, and then nothing more.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    /// Waits until the sender was given all that it gets, or has ended; the file holds all of it then.
    pub fn finish(self) -> WorkloadFile {
        self.enough();
        self.thread.join().expect("the feed ends well")
    }
}

fn feed(mut file: WorkloadFile, mut pipe: ChildStdin, enough: &AtomicBool) -> WorkloadFile {
    let mut beginning = File::open(&file.path).unwrap();
    // A sender that has ended accepts no more lines and reports the reason itself.
    if io::copy(&mut beginning, &mut pipe).is_err() {
        return file;
    }
    let mut kept = OpenOptions::new().append(true).open(&file.path).unwrap();
    while !enough.load(Ordering::SeqCst) {
        let mut both = Both(BufWriter::new(&mut kept), &mut pipe);
        if file.extend(&mut both, MORE, || !enough.load(Ordering::SeqCst)).is_err() {
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
