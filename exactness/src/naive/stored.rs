//! What the database holds, table by table.

use super::aggregates::StoredAggregates;
use super::{Held, Place, Reaction, Verdict, block_on};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::{BTreeMap, HashMap};
use tally_testkit::boards::Board;

/// Progress of the topics that are written by what rate rules hold back; 8 partitions each.
const PROGRESS: &str =
    "SELECT roots FROM sink_progress WHERE topic IN ('counters', 'counter-windows', 'reactions', 'verdicts')";
const PROGRESS_ROWS: usize = 4 * 8;

/// The clocks in the progress of a partition.
fn clocks(roots: String) -> impl Iterator<Item = i64> {
    let roots: Vec<serde_json::Value> = serde_json::from_str(&roots).unwrap();
    roots.into_iter().map(|root| root["clock_ms"].as_i64().unwrap())
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
    /// The values of `aggregate` nodes.
    pub aggregates: StoredAggregates,
}

/// The boards of a database, at one moment.
#[derive(Default)]
pub struct StoredBoards {
    /// The smallest clock of the database's progress.
    pub clock_ms: i64,
    /// Version and items by name.
    pub boards: BTreeMap<String, (i64, Board)>,
}

impl StoredBoards {
    /// Reads them while others may write.
    pub fn read(url: &str) -> Self {
        block_on(async {
            let mut database = Database::open(url).await;
            // One snapshot for all three: reads of MySQL are repeatable by default.
            database.run("BEGIN").await;
            let (mut stored, mut lengths) = (Self::default(), BTreeMap::new());
            for row in database.rows("SELECT roots FROM sink_progress WHERE topic = 'rankings'").await {
                stored.clock_ms = clocks(row.text(0)).min().unwrap_or(i64::MIN);
            }
            for row in database.rows("SELECT board, CAST(items AS SIGNED), version FROM boards").await {
                stored.boards.insert(row.text(0), (row.int(2), Vec::new()));
                lengths.insert(row.text(0), row.int(1));
            }
            let sql = "SELECT board, subject_id, score FROM board_entries ORDER BY board, `position`";
            for row in database.rows(sql).await {
                stored.boards.get_mut(&row.text(0)).expect("entries have a board").1.push((row.text(1), row.int(2)));
            }
            for (board, (_, items)) in &stored.boards {
                assert_eq!(items.len() as i64, lengths[board], "{board}: entries, and the number of them");
            }
            stored
        })
    }

    /// As they are compared.
    pub fn held(&self, store: &'static str) -> Held {
        let boards = self.boards.iter().map(|(board, (_, items))| (board.clone(), items.clone())).collect();
        Held::new(store, self.clock_ms, boards)
    }
}

impl Stored {
    /// As of when the tables are: the smallest clock in the progress of every partition; the earliest time while some
    /// partition has none.
    pub fn clock_ms(url: &str) -> i64 {
        let rows = block_on(async { Database::open(url).await.rows(PROGRESS).await });
        let clock_ms = rows.iter().flat_map(|row| clocks(row.text(0))).min();
        clock_ms.filter(|_| rows.len() >= PROGRESS_ROWS).unwrap_or(i64::MIN)
    }

    /// Reads a database that no process writes any more. What is cast is narrower or has no sign in MySQL.
    pub fn read(url: &str) -> Self {
        block_on(async {
            let mut database = Database::open(url).await;
            let mut stored = Self::default();
            for row in database.rows("SELECT subject_id, metric, value FROM counters WHERE metric NOT LIKE '%.%'").await
            {
                stored.counters.insert((row.text(0), row.text(1)), row.int(2));
            }
            let sql = "SELECT subject_id, metric, window_ms, window_start, value FROM counter_windows \
                       WHERE metric NOT LIKE '%.%'";
            for row in database.rows(sql).await {
                stored.windows.insert((row.text(0), row.text(1), row.int(2), row.int(3)), row.int(4));
            }
            let value = |row: &dyn Columns, at| StoredAggregates::value(row.text_or_null(at), row.text_or_null(at + 1));
            let value_of = "COALESCE(CAST(value AS CHAR), CAST(decimal_value AS CHAR)), text_value";
            let sql = format!("SELECT subject_id, metric, {value_of} FROM counters WHERE metric LIKE '%.%'");
            for row in database.rows(&sql).await {
                stored.aggregates.totals.insert((row.text(0), row.text(1)), value(&*row, 2));
            }
            let sql = format!(
                "SELECT subject_id, metric, window_kind, window_ms, window_start, \
                 COALESCE(variable_end, window_start + window_ms), CAST(COALESCE(deleted, 0) AS SIGNED), {value_of} \
                 FROM counter_windows WHERE metric LIKE '%.%'"
            );
            for row in database.rows(&sql).await {
                let window = Some(row.text(2)).filter(|kind| !kind.is_empty());
                let key = (row.text(0), row.text(1), window.unwrap_or_else(|| row.int(3).to_string()), row.int(4));
                let value = (row.int(6) == 0).then(|| value(&*row, 7));
                stored.aggregates.windows.insert(key, (row.int(5), value));
            }
            let sql = "SELECT actor_id, metric, subject_id, CAST(active AS SIGNED), occurred_at, created_at, updated_at \
                       FROM reactions";
            for row in database.rows(sql).await {
                let reaction = Reaction {
                    active: row.int(3) == 1,
                    occurred_at_ms: row.int(4),
                    created_at_ms: row.int(5),
                    updated_at_ms: row.int(6),
                };
                stored.reactions.insert((row.text(0), row.text(1), row.text(2)), reaction);
            }
            for row in database.rows("SELECT actor_id, subject_id, seq, CAST(active AS SIGNED) FROM collects").await {
                stored.collects.insert((row.text(0), row.text(1)), (row.int(2), row.int(3) == 1));
            }
            for row in database.rows("SELECT subject_id, value FROM collect_counts").await {
                stored.collect_counts.insert(row.text(0), row.int(1));
            }
            let sql = "SELECT CAST(`partition` AS SIGNED), CAST(`offset` AS SIGNED), verdict, event_id, actor_id, \
                       appended_at FROM verdicts";
            for row in database.rows(sql).await {
                let verdict = Verdict {
                    kind: row.text(2),
                    event_id: row.text_or_null(3),
                    actor_id: row.text_or_null(4),
                    appended_at_ms: row.int(5),
                };
                stored.verdicts.insert(place(&*row), verdict);
            }
            let sql = "SELECT CAST(`partition` AS SIGNED), CAST(`offset` AS SIGNED) FROM dead_letters \
                       WHERE topic = 'user-actions'";
            stored.dead_letters = database.rows(sql).await.iter().map(|row| place(&**row)).collect();
            stored
        })
    }
}

fn place(row: &dyn Columns) -> Place {
    (row.int(0) as u32, row.int(1) as u64)
}

/// Queries a number from a database of either kind.
pub fn number(url: &str, sql: &str) -> i64 {
    block_on(async { Database::open(url).await.rows(sql).await[0].int(0) })
}

/// A connection to a database of either kind.
enum Database {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
}

impl Database {
    async fn open(url: &str) -> Self {
        match url.starts_with("mysql:") {
            true => Self::MySql(MySqlConnection::connect(url).await.unwrap()),
            false => Self::Sqlite(SqliteConnection::connect(url).await.unwrap()),
        }
    }

    /// Runs a statement.
    async fn run(&mut self, sql: &'static str) {
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::MySql(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
        }
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    async fn rows(&mut self, sql: &str) -> Vec<Box<dyn Columns>> {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query(query).fetch_all(connection).await.map(boxed),
            Self::MySql(connection) => sqlx::query(query).fetch_all(connection).await.map(boxed),
        }
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
}

fn boxed<R: Columns + 'static>(rows: Vec<R>) -> Vec<Box<dyn Columns>> {
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Columns>).collect()
}

/// A row.
trait Columns {
    fn int(&self, column: usize) -> i64;
    fn text_or_null(&self, column: usize) -> Option<String>;

    fn text(&self, column: usize) -> String {
        self.text_or_null(column).unwrap()
    }
}

impl Columns for SqliteRow {
    fn int(&self, column: usize) -> i64 {
        self.get(column)
    }

    fn text_or_null(&self, column: usize) -> Option<String> {
        self.get(column)
    }
}

impl Columns for MySqlRow {
    fn int(&self, column: usize) -> i64 {
        self.get(column)
    }

    // Ids and words are bytes here.
    fn text_or_null(&self, column: usize) -> Option<String> {
        let bytes: Option<Vec<u8>> = self.try_get_unchecked(column).unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }
}
