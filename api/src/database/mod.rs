//! The database as the API reads it: statements at run time over a small pool, and one view of the sinks' progress that
//! all readers share. And a connection for the tables that the API writes.

mod dead_letters;
mod pool;
mod write;

use crate::answers::cursor::Cursor;
use crate::reads::roots::merged;
pub(crate) use pool::Columns;
use pool::ReadPool;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tally_cache::CachedCounters;
use tally_http::ApiProblem;
use tally_model::{Ranked, Ranking, RootPosition, VerdictKind};
use tokio::sync::watch;

pub use write::{WriteAddress, WriteConnection, is_worth_another_try};

/// How many ids a statement asks for; fewer are filled up, so that few statements have to be prepared.
const ID_LISTS: [usize; 4] = [1, 4, 16, 100];
/// How often progress is read while somebody waits for it.
const POLL: Duration = Duration::from_millis(15);
/// How old the progress behind an `as_of` may be.
const PROGRESS_AGE_MAX: Duration = Duration::from_millis(100);

/// The database, for reading.
pub struct ReadDatabase {
    pool: ReadPool,
    progress: RwLock<Arc<DatabaseProgress>>,
    /// Only one reads progress at a time, whoever wants it. When the last read that failed began, and why it did.
    refreshing: tokio::sync::Mutex<Option<(Instant, String)>>,
    /// Counts the times that progress was read. Its receivers are those who wait.
    refreshed: watch::Sender<u64>,
    polling: AtomicBool,
}

/// `sink_progress` at one moment.
#[derive(Default)]
pub struct DatabaseProgress {
    read_at: Option<Instant>,
    roots: HashMap<String, HashMap<u32, Stored>>,
}

struct Stored {
    next_offset: u64,
    text: String,
    roots: Arc<[RootPosition]>,
}

/// What has been switched on: where the rows of it are.
#[derive(Clone, Copy, Debug)]
pub enum Switched<'a> {
    /// In what a sink writes, under the name of a toggle.
    Reactions(&'a str),
    /// In the API's own table.
    Collects,
}

/// A list of reactions that is read page by page.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The column of the one that is asked about, and its id.
    of: (&'static str, &'a str),
    /// The column of the items.
    items: &'static str,
}

impl<'a> Page<'a> {
    /// Who has switched something on for a subject.
    pub fn actors_of(subject_id: &'a str) -> Self {
        Self { of: ("subject_id", subject_id), items: "actor_id" }
    }

    /// What an actor has switched on.
    pub fn subjects_of(actor_id: &'a str) -> Self {
        Self { of: ("actor_id", actor_id), items: "subject_id" }
    }
}

/// An event that was not counted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct NotCounted {
    /// Null where nobody could read it.
    #[schema(required = true)]
    pub event_id: Option<String>,
    /// `duplicate`, `limited`, `late` or `dead`.
    pub verdict: String,
    /// For people.
    pub reason: String,
}

/// Ids, at least one, filled up to one of the lengths that statements are prepared for.
fn padded<'a>(ids: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let len = ID_LISTS.into_iter().find(|len| *len >= ids.len()).unwrap_or(ids.len());
    ids.iter().copied().chain(std::iter::repeat(ids[0])).take(len)
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl DatabaseProgress {
    /// How far the input is contained in what came from a partition of an output topic.
    pub fn roots(&self, topic: &str, partition: u32) -> Arc<[RootPosition]> {
        let stored = self.roots.get(topic).and_then(|partitions| partitions.get(&partition));
        stored.map_or_else(|| Arc::from([]), |stored| stored.roots.clone())
    }

    /// Below which offset everything in a partition of an output topic is contained.
    pub fn next_offset(&self, topic: &str, partition: u32) -> Option<u64> {
        let stored = self.roots.get(topic).and_then(|partitions| partitions.get(&partition));
        stored.map(|stored| stored.next_offset)
    }
}

impl ReadDatabase {
    /// A handle; connects when first asked, so the database may come later. `url` is `sqlite:FILE` or
    /// `mysql://user:password@host[:port]/db`. Call it within a tokio runtime. No error contains the password.
    pub fn open(url: &str) -> Result<Arc<Self>, sqlx::Error> {
        Ok(Arc::new(Self {
            pool: ReadPool::open(url)?,
            progress: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            refreshed: watch::Sender::new(0),
            polling: AtomicBool::new(false),
        }))
    }

    /// The totals of subjects; those without rows are missing. `name` shares the names of metrics.
    pub async fn totals(
        &self,
        ids: &[&str],
        name: impl Fn(&str) -> Arc<str>,
    ) -> Result<HashMap<String, CachedCounters>, ApiProblem> {
        let mut totals = HashMap::<String, (Vec<(Arc<str>, i64)>, i64)>::new();
        for ids in ids.chunks(ID_LISTS[ID_LISTS.len() - 1]) {
            let padded: Vec<_> = padded(ids).collect();
            let list = placeholders(padded.len());
            let sql = format!("SELECT subject_id, metric, value, version FROM counters WHERE subject_id IN ({list})");
            let read = |row: &dyn Columns| Ok((row.text(0)?, row.text(1)?, row.int(2)?, row.int(3)?));
            for (id, metric, value, version) in self.pool.fetch(sql, &padded, read).await.map_err(unavailable)? {
                let (counters, newest) = totals.entry(id).or_default();
                counters.push((name(&metric), value));
                // A row keeps the version that changed it last; together they are as of the newest.
                *newest = version.max(*newest);
            }
        }
        let totals = totals.into_iter().map(|(id, (mut counters, version))| {
            counters.sort_unstable_by(|(a, _): &(Arc<str>, i64), (b, _)| a.cmp(b));
            (id, CachedCounters { counters: counters.into(), version })
        });
        Ok(totals.collect())
    }

    /// Ids and times of a page, newest first: at most `limit` behind a cursor.
    pub async fn page(
        &self,
        page: Page<'_>,
        switched: Switched<'_>,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(String, i64)>, ApiProblem> {
        let Page { of: (column, id), items } = page;
        let time = cursor.map(|cursor| cursor.order.to_string());
        let mut parameters = vec![id];
        let (table, of_metric) = match switched {
            Switched::Reactions(metric) => {
                parameters.push(metric);
                ("reactions", " AND metric = ?")
            }
            Switched::Collects => ("collects", ""),
        };
        let mut behind = String::new();
        if let (Some(cursor), Some(time)) = (cursor, &time) {
            // Numbers are bound as text, and every engine casts to this type.
            behind =
                format!(" AND (occurred_at < CAST(? AS SIGNED) OR (occurred_at = CAST(? AS SIGNED) AND {items} < ?))");
            parameters.extend([time.as_str(), time, &cursor.id]);
        }
        let sql = format!(
            "SELECT {items}, occurred_at FROM {table} WHERE {column} = ?{of_metric} AND active = 1{behind} \
             ORDER BY occurred_at DESC, {items} DESC LIMIT {limit}"
        );
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?));
        self.pool.fetch(sql, &parameters, read).await.map_err(unavailable)
    }

    /// Metrics, starts and values of a subject's windows of a length, from the one that starts at `first_ms` to the one
    /// that starts at `last_ms`. Windows in which nothing was counted are missing.
    pub async fn windows(
        &self,
        subject_id: &str,
        metrics: &[String],
        window_ms: i64,
        first_ms: i64,
        last_ms: i64,
    ) -> Result<Vec<(String, i64, i64)>, ApiProblem> {
        // Numbers are bound as text, and every engine casts to this type.
        let numbers = [window_ms, first_ms, last_ms].map(|number| number.to_string());
        let mut parameters: Vec<_> = std::iter::once(subject_id).chain(metrics.iter().map(String::as_str)).collect();
        parameters.extend(numbers.iter().map(String::as_str));
        let sql = format!(
            "SELECT metric, window_start, value FROM counter_windows WHERE subject_id = ? AND metric IN ({}) AND \
             window_ms = CAST(? AS SIGNED) AND window_start BETWEEN CAST(? AS SIGNED) AND CAST(? AS SIGNED)",
            placeholders(metrics.len())
        );
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?, row.int(2)?));
        self.pool.fetch(sql, &parameters, read).await.map_err(unavailable)
    }

    /// A board as a whole; None where nobody has written it. One statement, so that it sees one version.
    pub async fn board(&self, board: &str) -> Result<Option<Ranking>, ApiProblem> {
        let sql = "SELECT b.as_of, b.version, e.subject_id, COALESCE(e.score, 0) FROM boards b \
                   LEFT JOIN board_entries e ON e.board = b.board WHERE b.board = ? ORDER BY e.position";
        let read = |row: &dyn Columns| Ok((row.int(0)?, row.int(1)?, row.text_or_null(2)?, row.int(3)?));
        let rows = self.pool.fetch(sql, &[board], read).await.map_err(unavailable)?;
        let Some((as_of_ms, version, ..)) = rows.first() else { return Ok(None) };
        let (as_of_ms, version) = (*as_of_ms, *version);
        // A board that nobody is on has one row without a subject.
        let item = |(.., subject_id, score): (i64, i64, Option<String>, i64)| {
            subject_id.map(|subject_id| Ranked { subject_id, score })
        };
        let items = rows.into_iter().filter_map(item).collect();
        Ok(Some(Ranking { board: board.to_owned(), items, as_of_ms, version }))
    }

    /// All boards by name: how many items each has, and when it was written.
    pub async fn boards(&self) -> Result<Vec<(String, i64, i64)>, ApiProblem> {
        let sql = "SELECT board, items, as_of FROM boards ORDER BY board";
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?, row.int(2)?));
        self.pool.fetch(sql, &[], read).await.map_err(unavailable)
    }

    /// What an actor has switched on, of these subjects and metrics.
    pub async fn switched_on(
        &self,
        actor_id: &str,
        metrics: &[String],
        subjects: &[&str],
    ) -> Result<HashSet<(String, String)>, ApiProblem> {
        if metrics.is_empty() || subjects.is_empty() {
            return Ok(HashSet::new());
        }
        let mut parameters: Vec<_> = std::iter::once(actor_id).chain(metrics.iter().map(String::as_str)).collect();
        parameters.extend(padded(subjects));
        let sql = format!(
            "SELECT subject_id, metric FROM reactions WHERE actor_id = ? AND metric IN ({}) AND subject_id IN ({}) \
             AND active = 1",
            placeholders(metrics.len()),
            placeholders(parameters.len() - 1 - metrics.len())
        );
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.text(1)?));
        let rows = self.pool.fetch(sql, &parameters, read).await.map_err(unavailable)?;
        Ok(rows.into_iter().collect())
    }

    /// Which of these subjects an actor has collected.
    pub async fn collected(&self, actor_id: &str, subjects: &[&str]) -> Result<HashSet<String>, ApiProblem> {
        if subjects.is_empty() {
            return Ok(HashSet::new());
        }
        let parameters: Vec<_> = std::iter::once(actor_id).chain(padded(subjects)).collect();
        let list = placeholders(parameters.len() - 1);
        let sql =
            format!("SELECT subject_id FROM collects WHERE actor_id = ? AND subject_id IN ({list}) AND active = 1");
        let rows = self.pool.fetch(sql, &parameters, |row| row.text(0)).await.map_err(unavailable)?;
        Ok(rows.into_iter().collect())
    }

    /// Which events of a request a rate rule holds back, and what became of those that were not counted, in the order of
    /// the log.
    pub async fn verdicts(&self, request: &str) -> Result<(Vec<String>, Vec<NotCounted>), ApiProblem> {
        let sql = "SELECT event_id, verdict, reason FROM verdicts WHERE request = ? ORDER BY `partition`, `offset`";
        let read = |row: &dyn Columns| {
            Ok(NotCounted { event_id: row.text_or_null(0)?, verdict: row.text(1)?, reason: row.text(2)? })
        };
        let rows = self.pool.fetch(sql, &[request], read).await.map_err(unavailable)?;
        let held = VerdictKind::Held.as_str();
        let (held, not_counted): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row: &NotCounted| row.verdict == held);
        Ok((held.into_iter().filter_map(|row| row.event_id).collect(), not_counted))
    }

    /// Progress that is at most a tenth of a second old. Rows read afterwards are at least as new.
    pub async fn progress(&self) -> Result<Arc<DatabaseProgress>, ApiProblem> {
        self.progress_within(PROGRESS_AGE_MAX).await.map_err(unavailable)
    }

    /// Progress as of now.
    pub async fn progress_now(&self) -> Result<Arc<DatabaseProgress>, ApiProblem> {
        self.progress_within(Duration::ZERO).await.map_err(unavailable)
    }

    /// Progress as of now, which is not kept: a sample makes no other answer older.
    pub async fn progress_aside(&self) -> Result<Arc<DatabaseProgress>, ApiProblem> {
        self.read_progress(&self.last()).await.map(Arc::new).map_err(unavailable)
    }

    /// Waits until progress satisfies, or the deadline. Whoever waits shares one reader.
    pub async fn wait(
        self: &Arc<Self>,
        deadline: Instant,
        satisfied: impl Fn(&DatabaseProgress) -> bool,
    ) -> Result<bool, ApiProblem> {
        if satisfied(&*self.progress_within(POLL).await.map_err(unavailable)?) {
            return Ok(true);
        }
        let mut refreshed = self.refreshed.subscribe();
        while Instant::now() < deadline {
            self.poll_progress();
            let changed = tokio::time::timeout_at(deadline.into(), refreshed.changed()).await;
            if satisfied(&self.last()) {
                return Ok(true);
            }
            if changed.is_err() {
                break;
            }
        }
        Ok(false)
    }

    /// Starts the reader that serves all who wait, unless it runs. It ends when nobody waits any more.
    fn poll_progress(self: &Arc<Self>) {
        if self.polling.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = self.clone();
        tokio::spawn(async move {
            while database.refreshed.receiver_count() > 0 {
                tokio::time::sleep(POLL).await;
                // A failure is told by the next read; whoever waits goes on waiting.
                if let Err(error) = database.progress_within(Duration::ZERO).await {
                    tracing::warn!("sink_progress: {error}");
                    database.refreshed.send_modify(|times| *times += 1);
                }
            }
            // Whoever came in between has seen it running: the next change, or its own time-out, wakes it.
            database.polling.store(false, Ordering::Release);
            if database.refreshed.receiver_count() > 0 {
                database.refreshed.send_modify(|times| *times += 1);
            }
        });
    }

    fn last(&self) -> Arc<DatabaseProgress> {
        self.progress.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn progress_within(&self, age_max: Duration) -> Result<Arc<DatabaseProgress>, sqlx::Error> {
        let fresh = |progress: &Arc<DatabaseProgress>| progress.read_at.is_some_and(|at| at.elapsed() < age_max);
        let last = self.last();
        if fresh(&last) {
            return Ok(last);
        }
        let asked_at = Instant::now();
        let mut failed = self.refreshing.lock().await;
        let last = self.last();
        // What somebody else began to read after the question was asked answers it as well.
        if fresh(&last) || last.read_at.is_some_and(|read_at| read_at >= asked_at) {
            return Ok(last);
        }
        // So does its failure: otherwise each would wait for a server that is away, one after the other.
        if let Some((_, cause)) = failed.as_ref().filter(|(began_at, _)| *began_at >= asked_at) {
            return Err(sqlx::Error::Io(std::io::Error::other(cause.clone())));
        }
        let began_at = Instant::now();
        let read = self.read_progress(&last).await;
        *failed = read.as_ref().err().map(|error| (began_at, error.to_string()));
        let next = Arc::new(read?);
        *self.progress.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        self.refreshed.send_modify(|times| *times += 1);
        Ok(next)
    }

    async fn read_progress(&self, last: &DatabaseProgress) -> Result<DatabaseProgress, sqlx::Error> {
        let mut progress = DatabaseProgress { read_at: Some(Instant::now()), roots: HashMap::new() };
        let sql = "SELECT topic, `partition`, next_offset, roots FROM sink_progress";
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)? as u32, row.int(2)? as u64, row.text(3)?));
        for (topic, partition, next_offset, text) in self.pool.fetch(sql, &[], read).await? {
            let known = last.roots.get(&topic).and_then(|partitions| partitions.get(&partition));
            let roots = match known.filter(|known| known.text == text) {
                Some(known) => known.roots.clone(),
                None => merged(serde_json::from_str(&text).map_err(|e| sqlx::Error::Decode(e.into()))?),
            };
            progress.roots.entry(topic).or_default().insert(partition, Stored { next_offset, text, roots });
        }
        Ok(progress)
    }
}

/// 503: the cause goes to the log, not to whoever asked.
fn unavailable(error: sqlx::Error) -> ApiProblem {
    tracing::warn!("database: {error}");
    ApiProblem::unavailable("The database does not answer. Try again.", 1)
}
