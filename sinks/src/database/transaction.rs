//! A batch in one transaction: positions are compared, rows and positions written.

use super::CHUNKS;
use super::connection::{Columns, Connection};
use super::dialect::{CLAIMED, placeholders};
use super::rows::{Rows, Value, board_entries, boards, released, rows_of};
use super::table::{TABLES, Table};
use crate::batch::{Batch, Move};
use crate::target::{Standing, TargetError};
use hashbrown::HashMap;
use std::sync::Arc;
use tally_model::Ranking;
use tally_streams::log::TopicPartition;

/// The upserts of every table by its name and form of rows, one per number of rows: few statements have to be prepared.
pub struct Upserts(HashMap<(&'static str, bool), [Arc<str>; CHUNKS.len()]>);

impl Upserts {
    /// For a dialect.
    pub fn new(upsert: fn(&Table, usize) -> String) -> Self {
        let of_table = |table: &Table| CHUNKS.map(|rows| upsert(table, rows).into());
        Self(TABLES.iter().map(|table| ((table.name, table.is_short), of_table(table))).collect())
    }
}

/// Writes a batch as a whole. After an error the connection must be discarded: that rolls back.
pub async fn write(connection: &mut dyn Connection, upserts: &Upserts, batch: &Batch) -> Result<(), TargetError> {
    connection.run(connection.dialect().begin).await.map_err(failed)?;
    let stored = lock(connection, &batch.positions).await.map_err(failed)?;
    compare(&batch.positions, &stored)?;
    replace_boards(connection, upserts, batch.rankings.rows()).await?;
    for rows in rows_of(batch) {
        upsert(connection, upserts, &rows).await?;
    }
    delete_released(connection, batch).await.map_err(failed)?;
    // If this fails, the outcome is unknown: the retry of the same batch learns it from the positions.
    connection.run("COMMIT").await.map_err(failed)
}

/// An event that was held back and then released has no verdict any more.
async fn delete_released(connection: &mut dyn Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    for of_partition in released(batch).chunk_by(|a, b| a.0 == b.0) {
        for some in of_partition.chunks(CHUNKS[0]) {
            let mut parameters = vec![Value::Int(some[0].0.into())];
            parameters.extend(padded(some).map(|(_, offset)| Value::Int(offset as i64)));
            let list = placeholders(parameters.len() - 1, 1);
            let sql = format!("DELETE FROM verdicts WHERE `partition` = ? AND `offset` IN {list}");
            connection.execute(sql.into(), &parameters).await?;
        }
    }
    Ok(())
}

/// Fills a chunk by repeating the last item, so that few statements have to be prepared. Takes 1 item to the largest
/// chunk.
fn padded<T: Copy>(some: &[T]) -> impl Iterator<Item = T> {
    let len = CHUNKS.iter().rev().find(|size| **size >= some.len()).copied().unwrap_or(CHUNKS[0]);
    some.iter().copied().chain(std::iter::repeat(some[some.len() - 1])).take(len)
}

/// Reads and locks the positions until the transaction ends. A missing position is inserted first: otherwise two
/// writers that both found none would both continue.
async fn lock(
    connection: &mut dyn Connection,
    moves: &[Move],
) -> Result<HashMap<TopicPartition, Standing>, sqlx::Error> {
    let mut partitions: Vec<&TopicPartition> = moves.iter().map(|step| &step.partition).collect();
    partitions.sort_unstable();
    let dialect = connection.dialect();
    if let Some(claim) = dialect.claim {
        let claim = Arc::<str>::from(claim);
        let mut missing: Vec<_> = moves.iter().filter(|step| step.expected.is_none()).collect();
        missing.sort_unstable_by_key(|step| &step.partition);
        for step in missing {
            let TopicPartition { topic, partition } = &step.partition;
            let parameters = [Value::Text(topic), Value::Int((*partition).into())];
            connection.execute(claim.clone(), &parameters).await?;
        }
    }
    let mut stored = HashMap::new();
    for of_topic in partitions.chunk_by(|a, b| a.topic == b.topic) {
        for some in of_topic.chunks(CHUNKS[0]) {
            let mut parameters = vec![Value::Text(&some[0].topic)];
            parameters.extend(padded(some).map(|at| Value::Int(at.partition.into())));
            let list = placeholders(parameters.len() - 1, 1);
            let sql = format!(
                "SELECT `partition`, next_offset, generation, roots FROM sink_progress
                 WHERE topic = ? AND `partition` IN {list}{}",
                dialect.for_update
            );
            let read = |row: &dyn Columns| Ok((row.int(0)? as u32, row.int(1)?, row.int(2)? as u16, row.text(3)?));
            for (partition, next_offset, generation, roots) in connection.fetch(sql, &parameters, read).await? {
                if next_offset != CLAIMED {
                    let at = TopicPartition::new(some[0].topic.clone(), partition);
                    let revision = super::roots(&at, &roots, generation)?.revision();
                    stored.insert(at, Standing { next_offset: next_offset as u64, revision });
                }
            }
        }
    }
    Ok(stored)
}

/// Positions and their revisions are compared before they are set, so an outdated sink, or one that runs twice, can
/// never move a position back.
fn compare(moves: &[Move], stored: &HashMap<TopicPartition, Standing>) -> Result<(), TargetError> {
    for step in moves {
        let found = stored.get(&step.partition).copied();
        if found != step.expected {
            let (partition, expected) = (step.partition.clone(), step.expected);
            return Err(TargetError::Moved { partition, expected, found });
        }
    }
    Ok(())
}

/// Replaces boards as wholes. The row of a board in `boards` is the one guard of all its entries: written first, it
/// stays locked until the transaction ends, and its version then decides whether the entries may be replaced.
async fn replace_boards(
    connection: &mut dyn Connection,
    upserts: &Upserts,
    rankings: &[Ranking],
) -> Result<(), TargetError> {
    let mut sorted: Vec<_> = rankings.iter().collect();
    sorted.sort_unstable_by(|a, b| a.board.cmp(&b.board));
    upsert(connection, upserts, &boards(&sorted)).await?;
    for ranking in sorted {
        let board = Value::Text(&ranking.board);
        let sql = format!("SELECT version FROM boards WHERE board = ?{}", connection.dialect().for_update);
        let stored = connection.fetch(sql, std::slice::from_ref(&board), |row| row.int(0)).await.map_err(failed)?;
        if stored != [ranking.version] {
            continue;
        }
        // Most entries are what they were: they are written over, and only what is beyond the last one goes.
        upsert(connection, upserts, &board_entries(ranking)).await?;
        let beyond = Arc::<str>::from("DELETE FROM board_entries WHERE board = ? AND `position` > ?");
        let last = Value::Int(ranking.items.len() as i64);
        connection.execute(beyond, &[board, last]).await.map_err(failed)?;
    }
    Ok(())
}

/// Upserts rows, as many a statement as fit.
async fn upsert(connection: &mut dyn Connection, upserts: &Upserts, rows: &Rows<'_>) -> Result<(), TargetError> {
    let table = rows.table;
    let width = table.columns().count();
    let (wanted_bytes, most_bytes) = connection.statement_bytes();
    let mut left = &rows.values[..];
    while !left.is_empty() {
        let fits = |size: &usize| {
            let values = left.get(..size * width)?;
            (*size == 1 || bytes(values) <= wanted_bytes).then_some(values)
        };
        // A single row always fits, so there is one.
        let Some((chunk, values)) = CHUNKS.iter().enumerate().find_map(|(i, size)| Some((i, fits(size)?))) else {
            break;
        };
        if bytes(values) > most_bytes {
            let (row, len) = (address(table, values), bytes(values));
            let cause = format!("its {len} bytes do not fit a packet: raise `max_allowed_packet` of the server");
            return Err(TargetError::Refused { row, cause });
        }
        let sql = upserts.0[&(table.name, table.is_short)][chunk].clone();
        if let Err(error) = connection.execute(sql, values).await {
            return Err(match (connection.dialect().is_refusal)(&error) {
                true => TargetError::Refused { row: culprit(table, values, &error), cause: error.to_string() },
                false => failed(error),
            });
        }
        left = &left[values.len()..];
    }
    Ok(())
}

fn bytes(values: &[Value<'_>]) -> usize {
    values.iter().map(Value::len_bytes).sum()
}

/// A table's name and a row's key.
fn address(table: &Table, row: &[Value<'_>]) -> String {
    let key = table.keys.iter().zip(row).map(|(name, value)| format!("{name} {value}"));
    format!("{} ({})", table.name, key.collect::<Vec<_>>().join(", "))
}

/// The row that an error is about: MySQL names its place in the statement.
fn culprit(table: &Table, values: &[Value<'_>], error: &sqlx::Error) -> String {
    let width = table.columns().count();
    let named = error.as_database_error().and_then(|e| e.message().rsplit_once("at row ")?.1.parse::<usize>().ok());
    let row = named.and_then(|number| values.chunks(width).nth(number.checked_sub(1)?));
    match (row, values.chunks(width).next_back()) {
        (Some(row), _) => address(table, row),
        (None, Some(last)) => format!("{} to {}", address(table, &values[..width]), address(table, last)),
        (None, None) => table.name.to_owned(),
    }
}

fn failed(error: sqlx::Error) -> TargetError {
    TargetError::Unavailable(error.to_string())
}
