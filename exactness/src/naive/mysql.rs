//! The same tables in MySQL or MariaDB, where ids and words are bytes.

use super::stored::{PROGRESS, smallest_clock};
use super::{Place, Reaction, Stored, StoredBoards, Verdict, block_on};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Connection, Row};

impl Stored {
    /// Reads a database that no process writes any more.
    pub fn read_mysql(url: &str) -> Self {
        block_on(async {
            let mut connection = MySqlConnection::connect(url).await.unwrap();
            Self::read_tables(&mut connection).await
        })
    }

    /// As of when the tables are.
    pub fn clock_ms_of_mysql(url: &str) -> i64 {
        block_on(async {
            let mut connection = MySqlConnection::connect(url).await.unwrap();
            let roots: Vec<String> = rows(&mut connection, PROGRESS).await.iter().map(|row| text(row, 0)).collect();
            smallest_clock(&roots)
        })
    }

    async fn read_tables(connection: &mut MySqlConnection) -> Self {
        let mut stored = Self::default();
        for row in rows(connection, "SELECT subject_id, metric, value FROM counters").await {
            stored.counters.insert((text(&row, 0), text(&row, 1)), row.get(2));
        }
        let sql = "SELECT subject_id, metric, window_ms, window_start, value FROM counter_windows";
        for row in rows(connection, sql).await {
            stored.windows.insert((text(&row, 0), text(&row, 1), row.get(2), row.get(3)), row.get(4));
        }
        let sql = "SELECT actor_id, metric, subject_id, CAST(active AS SIGNED), occurred_at, created_at, updated_at \
                   FROM reactions";
        for row in rows(connection, sql).await {
            let reaction = Reaction {
                active: row.get::<i64, _>(3) == 1,
                occurred_at_ms: row.get(4),
                created_at_ms: row.get(5),
                updated_at_ms: row.get(6),
            };
            stored.reactions.insert((text(&row, 0), text(&row, 1), text(&row, 2)), reaction);
        }
        let sql = "SELECT actor_id, subject_id, seq, CAST(active AS SIGNED) FROM collects";
        for row in rows(connection, sql).await {
            stored.collects.insert((text(&row, 0), text(&row, 1)), (row.get(2), row.get::<i64, _>(3) == 1));
        }
        for row in rows(connection, "SELECT subject_id, value FROM collect_counts").await {
            stored.collect_counts.insert(text(&row, 0), row.get(1));
        }
        let sql = "SELECT CAST(`partition` AS SIGNED), CAST(`offset` AS SIGNED), verdict, event_id, actor_id, \
                   appended_at FROM verdicts";
        for row in rows(connection, sql).await {
            let verdict = Verdict {
                kind: text(&row, 2),
                event_id: optional(&row, 3),
                actor_id: optional(&row, 4),
                appended_at_ms: row.get(5),
            };
            stored.verdicts.insert(place(&row), verdict);
        }
        let sql = "SELECT CAST(`partition` AS SIGNED), CAST(`offset` AS SIGNED) FROM dead_letters \
                   WHERE topic = 'user-actions'";
        stored.dead_letters = rows(connection, sql).await.iter().map(place).collect();
        stored
    }
}

impl StoredBoards {
    /// Reads them while others may write.
    pub fn read_mysql(url: &str) -> Self {
        block_on(async {
            let mut connection = MySqlConnection::connect(url).await.unwrap();
            // One snapshot for all three: reads are repeatable by default.
            let mut transaction = connection.begin().await.unwrap();
            let mut stored = Self::default();
            for row in rows(&mut transaction, "SELECT roots FROM sink_progress WHERE topic = 'rankings'").await {
                stored.take_roots(&text(&row, 0));
            }
            for row in rows(&mut transaction, "SELECT board, CAST(items AS SIGNED), version FROM boards").await {
                stored.take_board(text(&row, 0), row.get(1), row.get(2));
            }
            let sql = "SELECT board, subject_id, score FROM board_entries ORDER BY board, `position`";
            for row in rows(&mut transaction, sql).await {
                stored.take_entry(text(&row, 0), text(&row, 1), row.get(2));
            }
            stored.checked()
        })
    }
}

fn place(row: &MySqlRow) -> Place {
    (row.get::<i64, _>(0) as u32, row.get::<i64, _>(1) as u64)
}

fn text(row: &MySqlRow, column: usize) -> String {
    optional(row, column).unwrap_or_default()
}

fn optional(row: &MySqlRow, column: usize) -> Option<String> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(column).unwrap();
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

async fn rows(connection: &mut MySqlConnection, sql: &'static str) -> Vec<MySqlRow> {
    sqlx::query(sql).fetch_all(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}
