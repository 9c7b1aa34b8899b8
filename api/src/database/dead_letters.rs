//! Dead letters, as the database has them.

use super::{Columns, DatabaseError, ReadDatabase};
use tally_model::DeadLetter;

/// How much of a record's key is read, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// How many of the newest are grouped, which bounds the duration of a read.
const GROUPED_MAX: usize = 10_000;
/// Groups of an answer.
const REASONS_MAX: usize = 100;

/// Which dead letters to read: those that match every condition given.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetterFilter<'a> {
    /// Exactly this reason; empty for those that have none.
    pub reason: Option<&'a str>,
    /// Exactly this processor; empty for those that have none.
    pub node: Option<&'a str>,
}

/// A row of `dead_letters`.
pub struct DeadLetterRow {
    /// Its position in the topic of dead letters; orders letters of the same time.
    pub place: (i64, i64),
    /// The letter, with the beginnings of its key and its value.
    pub letter: DeadLetter,
    /// The length of the whole value in bytes.
    pub value_bytes: i64,
}

/// Dead letters of one processor for one reason.
pub struct ReasonRow {
    /// Their reason.
    pub reason: Option<String>,
    /// The processor that could not handle them.
    pub node: Option<String>,
    /// Number of these dead letters.
    pub count: u64,
    /// When the oldest of them became a dead letter, in milliseconds since 1970.
    pub first_ms: i64,
    /// When the newest did.
    pub last_ms: i64,
}

impl ReadDatabase {
    /// Dead letters, the newest first, behind a place: when one was appended, and its partition and offset.
    pub async fn dead_letters(
        &self,
        filter: DeadLetterFilter<'_>,
        behind: Option<(i64, (i64, i64))>,
        limit: usize,
        value_bytes_max: usize,
    ) -> Result<Vec<DeadLetterRow>, DatabaseError> {
        let numbers = behind.map(|(time_ms, (partition, offset))| {
            [time_ms, time_ms, partition, partition, offset].map(|number| number.to_string())
        });
        let mut conditions = Vec::new();
        let mut parameters: Vec<&str> = Vec::new();
        if let Some(numbers) = &numbers {
            // Comparisons of single columns, so that either database walks the index by time.
            conditions.push(
                "appended_at <= CAST(? AS SIGNED) AND (appended_at < CAST(? AS SIGNED) OR \
                 letter_partition < CAST(? AS SIGNED) OR \
                 (letter_partition = CAST(? AS SIGNED) AND letter_offset < CAST(? AS SIGNED)))",
            );
            parameters.extend(numbers.iter().map(String::as_str));
        }
        for (condition, value) in [("COALESCE(reason, '') = ?", filter.reason), ("COALESCE(node, '') = ?", filter.node)]
        {
            if let Some(value) = value {
                conditions.push(condition);
                parameters.push(value);
            }
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        // The beginning of nothing is null in SQLite.
        let sql = format!(
            "SELECT letter_partition, letter_offset, appended_at, reason, node, topic, `partition`, `offset`, \
             COALESCE(SUBSTR(`key`, 1, {KEY_BYTES_MAX}), `key`), COALESCE(SUBSTR(value, 1, {value_bytes_max}), value), \
             COALESCE(LENGTH(value), 0), detail \
             FROM dead_letters {condition} \
             ORDER BY appended_at DESC, letter_partition DESC, letter_offset DESC LIMIT {limit}"
        );
        let read = |row: &dyn Columns| {
            Ok(DeadLetterRow {
                place: (row.int(0)?, row.int(1)?),
                letter: DeadLetter {
                    appended_at_ms: row.int(2)?,
                    reason: row.text_or_null(3)?,
                    node: row.text_or_null(4)?,
                    topic: row.text_or_null(5)?,
                    partition: row.int_or_null(6)?,
                    offset: row.int_or_null(7)?,
                    key: row.bytes_or_null(8)?,
                    value: row.bytes_or_null(9)?,
                    detail: row.text_or_null(11)?,
                },
                value_bytes: row.int(10)?,
            })
        };
        self.fetch(sql, &parameters, read).await
    }

    /// The newest dead letters by reason and node, the most frequent first; and how many were looked at.
    pub async fn dead_letter_reasons(&self) -> Result<(Vec<ReasonRow>, u64), DatabaseError> {
        let newest = format!(
            "(SELECT reason, node, appended_at FROM dead_letters ORDER BY appended_at DESC LIMIT {GROUPED_MAX}) AS newest"
        );
        let sql = format!(
            "SELECT reason, node, COUNT(*), MIN(appended_at), MAX(appended_at), (SELECT COUNT(*) FROM {newest}) \
             FROM {newest} GROUP BY reason, node ORDER BY COUNT(*) DESC, MAX(appended_at) DESC LIMIT {REASONS_MAX}"
        );
        let read = |row: &dyn Columns| {
            let item = ReasonRow {
                reason: row.text_or_null(0)?,
                node: row.text_or_null(1)?,
                count: row.int(2)?.max(0) as u64,
                first_ms: row.int(3)?,
                last_ms: row.int(4)?,
            };
            Ok((item, row.int(5)?.max(0) as u64))
        };
        let rows = self.fetch(sql, &[], read).await?;
        let looked_at = rows.first().map_or(0, |(_, looked_at)| *looked_at);
        Ok((rows.into_iter().map(|(item, _)| item).collect(), looked_at))
    }
}
