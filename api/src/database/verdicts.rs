//! Events that were held back or not counted.

use super::{Columns, DatabaseError, ReadDatabase};
use tally_model::VerdictKind;

/// An event that was not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictRow {
    /// None where the event could not be read.
    pub event_id: Option<String>,
    /// `duplicate`, `limited`, `late` or `dead`.
    pub verdict: String,
    /// For people.
    pub reason: String,
}

impl ReadDatabase {
    /// The events of a request that a rate rule holds back, and the verdicts of those that were not counted, in the
    /// order of the log.
    pub async fn verdicts(&self, request: &str) -> Result<(Vec<String>, Vec<VerdictRow>), DatabaseError> {
        let sql = "SELECT event_id, verdict, reason FROM verdicts WHERE request = ? ORDER BY `partition`, `offset`";
        let read = |row: &dyn Columns| {
            Ok(VerdictRow { event_id: row.text_or_null(0)?, verdict: row.text(1)?, reason: row.text(2)? })
        };
        let rows = self.fetch(sql, &[request], read).await?;
        let held = VerdictKind::Held.as_str();
        let (held, not_counted): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row: &VerdictRow| row.verdict == held);
        Ok((held.into_iter().filter_map(|row| row.event_id).collect(), not_counted))
    }
}
