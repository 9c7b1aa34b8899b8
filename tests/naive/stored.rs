//! What the database holds, table by table.

use super::{Place, Reaction, Verdict};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Row};
use std::collections::HashMap;
use std::path::Path;

/// The tables that are compared.
#[derive(Default)]
pub struct Stored {
    /// (subject, metric)
    pub counters: HashMap<(String, String), i64>,
    /// (subject, metric, length, start)
    pub windows: HashMap<(String, String, i64, i64), i64>,
    /// (actor, metric, subject)
    pub reactions: HashMap<(String, String, String), Reaction>,
    pub verdicts: HashMap<Place, Verdict>,
    /// Where the records of the dead letters came from.
    pub dead_letters: Vec<Place>,
}

impl Stored {
    /// Reads a database that no process writes any more.
    pub fn read(file: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            Self::read_all(&mut connection).await
        })
    }

    async fn read_all(connection: &mut SqliteConnection) -> Self {
        let mut stored = Self::default();
        for row in rows(connection, "SELECT subject_id, metric, value FROM counters").await {
            stored.counters.insert((row.get(0), row.get(1)), row.get(2));
        }
        let sql = "SELECT subject_id, metric, window_ms, window_start, value FROM counter_windows";
        for row in rows(connection, sql).await {
            stored.windows.insert((row.get(0), row.get(1), row.get(2), row.get(3)), row.get(4));
        }
        let sql = "SELECT actor_id, metric, subject_id, active, occurred_at, created_at, updated_at FROM reactions";
        for row in rows(connection, sql).await {
            let reaction = Reaction {
                active: row.get::<i64, _>(3) == 1,
                occurred_at_ms: row.get(4),
                created_at_ms: row.get(5),
                updated_at_ms: row.get(6),
            };
            stored.reactions.insert((row.get(0), row.get(1), row.get(2)), reaction);
        }
        let sql = "SELECT `partition`, `offset`, verdict, event_id, actor_id, appended_at FROM verdicts";
        for row in rows(connection, sql).await {
            let verdict =
                Verdict { kind: row.get(2), event_id: row.get(3), actor_id: row.get(4), appended_at_ms: row.get(5) };
            stored.verdicts.insert(place(&row), verdict);
        }
        let sql = "SELECT `partition`, `offset` FROM dead_letters WHERE topic = 'user-actions'";
        stored.dead_letters = rows(connection, sql).await.iter().map(place).collect();
        stored
    }
}

fn place(row: &SqliteRow) -> Place {
    (row.get(0), row.get::<i64, _>(1) as u64)
}

async fn rows(connection: &mut SqliteConnection, sql: &'static str) -> Vec<SqliteRow> {
    sqlx::query(sql).fetch_all(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}
