//! Live streams: server-sent events, whenever counters or a board change.
//!
//! One task publishes the changes in the cache of this process, at most once per [`tasks::ROUND`]; an event is
//! serialized once for all readers. A second task reads, as any request does, the subjects whose changes the cache does
//! not report completely: their records were skipped before the first stream of them, or there is no current cache. A
//! third task does the same for boards.

mod event;
mod hub;
mod publish;
mod stream;
mod tasks;

pub use event::EventId;
pub use hub::Watched;
pub use stream::Stream;

use crate::answers::ReadError;
use crate::metrics::LiveMetrics;
use crate::reads::Reads;
use hub::Hub;
use std::sync::Arc;
use tally_model::ReceiptKey;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The maximum number of streams, and the signal that ends them.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Open streams; one more gets 503.
    pub streams_max: usize,
    /// Ends all of them.
    pub stopping: CancellationToken,
}

/// The streams of a process.
pub struct Live {
    hub: Arc<Hub>,
    slots: Arc<Semaphore>,
    config: LiveConfig,
    metrics: LiveMetrics,
    reads: Arc<Reads>,
    /// Signs the cursors of boards.
    key: ReceiptKey,
}

/// Why a stream does not begin.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// This process has reached its maximum number of streams, given here.
    #[error("the limit of {0} live streams is reached")]
    Full(usize),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
    /// There is no such board.
    #[error("there is no such board")]
    NoBoard,
    /// The content of the stream cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The content cannot be serialized as JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Live {
    /// Without readers; `process` distinguishes this process from every other one. Starts the tasks behind the streams,
    /// which end with what is returned, or when the process stops. Call it within a tokio runtime.
    pub fn start(config: LiveConfig, process: u64, reads: Arc<Reads>, key: ReceiptKey) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(config.streams_max.min(Semaphore::MAX_PERMITS)));
        let metrics = reads.metrics.live.clone();
        let live = Arc::new(Self { hub: Hub::new(process, metrics.clone()), slots, config, metrics, reads, key });
        tasks::start(&live);
        live
    }

    /// A stream about these, which begins with what its reader has not seen: `seen` is the last event that it was sent,
    /// if any.
    pub async fn open(&self, of: Box<[Watched]>, seen: Option<EventId>) -> Result<Stream, LiveError> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            self.metrics.refused.inc();
            return Err(LiveError::Full(self.config.streams_max));
        };
        let watch = |watched: &Watched| {
            if let (Some(id), Some(memory)) = (watched.subject(), self.reads.totals.memory()) {
                memory.cache.watch(id);
            }
        };
        let stream = Stream::join(&self.hub, of.clone(), slot, watch).ok_or(LiveError::Stopping)?;
        match &of[..] {
            [Watched::Board(board)] => self.publish_board(board, None).await?,
            subjects => {
                let ids: Vec<_> = subjects.iter().filter_map(Watched::subject).map(|id| &**id).collect();
                self.publish_subjects(&ids).await?;
            }
        }
        stream.begin(seen);
        Ok(stream)
    }
}
