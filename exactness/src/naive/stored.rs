//! What the database holds, table by table.

use super::{Held, Place, Reaction, Verdict, block_on};
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tally_testkit::boards::Board;

/// Progress of the topics that are written by what rate rules hold back; 8 partitions each.
pub(super) const PROGRESS: &str =
    "SELECT roots FROM sink_progress WHERE topic IN ('counters', 'counter-windows', 'reactions', 'verdicts')";
const PROGRESS_ROWS: usize = 4 * 8;

/// The smallest clock in the progress of every partition; the earliest time while some partition has none.
pub(super) fn smallest_clock(roots: &[String]) -> i64 {
    let clocks = roots.iter().flat_map(|roots| {
        let roots: Vec<serde_json::Value> = serde_json::from_str(roots).unwrap();
        roots.into_iter().map(|root| root["clock_ms"].as_i64().unwrap())
    });
    if roots.len() < PROGRESS_ROWS { i64::MIN } else { clocks.min().unwrap_or(i64::MIN) }
}

/// The tables that are compared.
#[derive(Default)]
pub struct Stored {
    /// (subject, metric)
    pub counters: HashMap<(String, String), i64>,
    /// (subject, metric, length, start)
    pub windows: HashMap<(String, String, i64, i64), i64>,
    /// (actor, metric, subject)
    pub reactions: HashMap<(String, String, String), Reaction>,
    /// (actor, subject): the number, and whether it is on.
    pub collects: HashMap<(String, String), (i64, bool)>,
    /// How many have collected each subject.
    pub collect_counts: HashMap<String, i64>,
    /// Why events were not counted.
    pub verdicts: HashMap<Place, Verdict>,
    /// Where the records of the dead letters came from.
    pub dead_letters: Vec<Place>,
}

/// The boards of a database, at one moment.
#[derive(Default)]
pub struct StoredBoards {
    /// The smallest clock of the database's progress.
    pub clock_ms: i64,
    /// Version and items by name.
    pub boards: BTreeMap<String, (i64, Board)>,
    /// The number of rows per board according to `boards`.
    lengths: BTreeMap<String, i64>,
}

impl StoredBoards {
    /// Reads them while others may write.
    pub fn read(file: &Path) -> Self {
        block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            let mut transaction = connection.begin().await.unwrap();
            let mut stored = Self::default();
            for row in rows(&mut transaction, "SELECT roots FROM sink_progress WHERE topic = 'rankings'").await {
                stored.take_roots(row.get(0));
            }
            for row in rows(&mut transaction, "SELECT board, items, version FROM boards").await {
                stored.take_board(row.get(0), row.get(1), row.get(2));
            }
            let sql = "SELECT board, subject_id, score FROM board_entries ORDER BY board, position";
            for row in rows(&mut transaction, sql).await {
                stored.take_entry(row.get(0), row.get(1), row.get(2));
            }
            stored.checked()
        })
    }

    pub(super) fn take_roots(&mut self, json: &str) {
        let roots: Vec<serde_json::Value> = serde_json::from_str(json).unwrap();
        self.clock_ms = roots.iter().map(|root| root["clock_ms"].as_i64().unwrap()).min().unwrap_or(i64::MIN);
    }

    pub(super) fn take_board(&mut self, board: String, items: i64, version: i64) {
        self.boards.insert(board.clone(), (version, Vec::new()));
        self.lengths.insert(board, items);
    }

    pub(super) fn take_entry(&mut self, board: String, subject: String, score: i64) {
        self.boards.get_mut(&board).expect("entries have a board").1.push((subject, score));
    }

    /// As many entries as the board's row has.
    pub(super) fn checked(self) -> Self {
        for (board, (_, items)) in &self.boards {
            assert_eq!(items.len() as i64, self.lengths[board], "{board}: entries, and the number of them");
        }
        self
    }

    /// As they are compared.
    pub fn held(&self, store: &'static str) -> Held {
        let boards = self.boards.iter().map(|(board, (_, items))| (board.clone(), items.clone())).collect();
        Held { store, clock_ms: self.clock_ms, boards }
    }
}

impl Stored {
    /// Reads a database that no process writes any more.
    pub fn read(file: &Path) -> Self {
        block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
            Self::read_all(&mut connection).await
        })
    }

    /// As of when the tables are.
    pub fn clock_ms(file: &Path) -> i64 {
        block_on(async {
            let mut connection = SqliteConnectOptions::new().filename(file).read_only(true).connect().await.unwrap();
            let roots: Vec<String> = rows(&mut connection, PROGRESS).await.iter().map(|row| row.get(0)).collect();
            smallest_clock(&roots)
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
        for row in rows(connection, "SELECT actor_id, subject_id, seq, active FROM collects").await {
            stored.collects.insert((row.get(0), row.get(1)), (row.get(2), row.get::<i64, _>(3) == 1));
        }
        for row in rows(connection, "SELECT subject_id, value FROM collect_counts").await {
            stored.collect_counts.insert(row.get(0), row.get(1));
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

/// Queries a number from a database of either kind.
pub fn number(url: &str, sql: &str) -> i64 {
    let query = AssertSqlSafe(sql.to_owned());
    let answer = block_on(async {
        if url.starts_with("mysql:") {
            let mut connection = MySqlConnection::connect(url).await?;
            return sqlx::query_scalar(query).fetch_one(&mut connection).await;
        }
        let mut connection = SqliteConnection::connect(url).await?;
        sqlx::query_scalar(query).fetch_one(&mut connection).await
    });
    answer.unwrap_or_else(|e: sqlx::Error| panic!("{sql}: {e}"))
}

fn place(row: &SqliteRow) -> Place {
    (row.get(0), row.get::<i64, _>(1) as u64)
}

async fn rows(connection: &mut SqliteConnection, sql: &'static str) -> Vec<SqliteRow> {
    sqlx::query(sql).fetch_all(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}
