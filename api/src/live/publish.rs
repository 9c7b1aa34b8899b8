//! Reads for streams, and their publication.

use super::event::Content;
use super::hub::Watched;
use super::{Live, LiveError};
use crate::answers::ReadError;
use crate::answers::counters::SubjectAnswer;
use crate::answers::ranking::first_page;
use crate::answers::written::{Written, digest};
use crate::reads::freshness::Freshness;
use crate::reads::store::Totals;
use std::sync::Arc;

impl Live {
    /// Content as it is sent; None if it cannot be serialized as JSON.
    pub fn publish(&self, id: Arc<str>, totals: Totals, freshness: Freshness) {
        let (version, as_of_ms) = (totals.version, freshness.as_of_ms());
        let answer = SubjectAnswer::new(&self.reads.template, (*id).to_owned(), totals, freshness);
        let Ok(written) = Written::of(&answer) else { return };
        let digest = written.digest();
        let content = Content { name: "counters", json: written.json, digest, version, as_of_ms };
        self.hub.publish(&Watched::Subject(id), &content);
    }

    /// Reads subjects as any request does, and publishes them to their readers.
    pub async fn publish_subjects(&self, ids: &[&str]) -> Result<(), ReadError> {
        let (totals, freshness) = self.reads.totals(ids, None).await?;
        for (id, totals) in ids.iter().zip(totals) {
            self.publish((*id).into(), totals, freshness.clone());
        }
        Ok(())
    }

    /// Reads a board, and publishes it to its readers unless they have seen this version.
    pub async fn publish_board(&self, board: &str, seen: Option<i64>) -> Result<(), LiveError> {
        let boards = self.reads.boards_with(board).ok_or(LiveError::NoBoard)?;
        let read = boards.board(board, None).await.map_err(ReadError::from)?;
        if !boards.has(board, &read) {
            return Err(LiveError::NoBoard);
        }
        let version = read.0.as_ref().map_or(0, |ranking| ranking.version);
        if seen == Some(version) {
            return Ok(());
        }
        let items = read.0.as_ref().map_or(&[][..], |ranking| &ranking.items);
        let shown: Vec<_> = items.iter().map(|item| (&item.subject_id, item.score)).collect();
        let digest = digest(&serde_json::to_vec(&(board, shown))?);
        let page = first_page(&self.reads, &self.key, board, read).await?;
        let as_of_ms = page.freshness.as_of_ms();
        let content = Content { name: "ranking", json: Written::of(&page)?.json, digest, version, as_of_ms };
        self.hub.publish(&Watched::Board(board.into()), &content);
        Ok(())
    }
}
