//! A thread that calls a function at regular intervals.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The thread ends when this is dropped, after the call in progress.
pub struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Calls `look` on a thread of this name, the first time after `every`.
    pub fn start(name: &str, every: Duration, mut look: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        })?;
        Ok(Self { _stop: stop })
    }
}
