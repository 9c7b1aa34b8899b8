//! Loads the subjects of the boards into the view before the first request, since most readers request them.
//!
//! Afterwards no refresh is needed: the topic keeps the view current, and nothing in it expires.

use super::Reads;
use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

/// The most subjects that are loaded, 100 per request, one request after the other.
const SUBJECTS_MAX: usize = 5_000;
const REQUEST_SUBJECTS: usize = 100;
/// How often the view is checked until it is current.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Loads them once the view is current.
pub async fn warm_up(reads: Weak<Reads>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(reads) = reads.upgrade() else { return };
        let boards = reads.boards.as_ref().and_then(|boards| boards.ladder.memory());
        let Some((totals, boards)) = reads.totals.memory().zip(boards) else { return };
        let (totals, boards) = (&totals.cache, &boards.cache);
        if !totals.ready() || !boards.ready() {
            continue;
        }
        let boards = boards.boards();
        let ids: BTreeSet<&str> =
            boards.iter().flat_map(|board| &board.items).map(|item| item.subject_id.as_str()).collect();
        let missing: Vec<_> = ids.into_iter().filter(|id| totals.get(id).is_none()).take(SUBJECTS_MAX).collect();
        for ids in missing.chunks(REQUEST_SUBJECTS) {
            if reads.totals.load(ids).await.iter().any(Result::is_err) {
                tracing::info!("the subjects of the boards are loaded on demand: no store responds");
                return;
            }
        }
        tracing::info!(subjects = missing.len(), "the subjects of the boards are loaded");
        return;
    }
}
