//! The state behind the routes.

use crate::answers::board_pages::BoardPages;
use crate::answers::progress::ProgressReader;
use crate::answers::topology::TopologyAnswer;
use crate::live::Live;
use crate::processes::Processes;
use crate::reads::Reads;
use crate::reads::append_times::AppendTimes;
use std::sync::Arc;
use tally_http::Check;
use tally_model::ReceiptKey;
use tally_streams::log::Time;

/// What the routes read from.
pub struct Api {
    pub(crate) topology: Arc<TopologyAnswer>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) progress: Arc<ProgressReader>,
    pub(crate) append_times: AppendTimes,
    /// First pages of boards, as they were a moment ago.
    pub(crate) board_pages: BoardPages,
    pub(crate) live: Arc<Live>,
    pub(crate) processes: Arc<Processes>,
    pub(crate) receipt_key: ReceiptKey,
    pub(crate) clock: Time,
}

impl Api {
    /// What has to be well before requests should come: every read may need the database.
    pub fn check(&self) -> Check {
        let database = self.reads.database.clone();
        Check::new("the database", move || {
            let database = database.clone();
            async move {
                database.progress().await.map(drop).map_err(|error| {
                    tracing::warn!("{error}");
                    "does not respond; see the service log".to_owned()
                })
            }
        })
    }
}
