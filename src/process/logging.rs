//! Logs on stderr: for people on a terminal, JSON otherwise. `RUST_LOG` selects what is logged.

use std::io::IsTerminal;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging for the whole process.
pub fn start() {
    let chosen = std::env::var("RUST_LOG").ok().and_then(|targets| targets.parse::<Targets>().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = match std::io::stderr().is_terminal() {
        true => layer.with_target(false).boxed(),
        false => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}
