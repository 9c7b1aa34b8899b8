//! The transaction: rows, counts and outbox change together or not at all.
//!
//! Requests that wait at the same time share one, so that a hot subject costs a commit for all of them and not one each.
//! Rows are locked in the order of their keys, all of `collects` before any of `collect_counts`, so that transactions
//! wait for each other but never in a circle.
//!
//! The number of a change is one more than that of the row's last one, and at least the database's time in milliseconds.
//! Its order is that of the lock, independent of any clock; the time only keeps it rising where a backup was restored
//! that lacks the last changes.

use super::CollectEvents;
use crate::database::WriteConnection;
use sqlx::Error;
use std::collections::BTreeMap;
use tally_model::{EventFields, hex};

/// A requested state.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub subject_id: String,
    pub actor_id: String,
    /// Whether the subject is to be collected.
    pub active: bool,
    /// Random; the id of the event that the change causes.
    pub request: [u8; 16],
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// The outcome of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whether the state changed.
    pub changed: bool,
    /// How many have collected the subject afterwards.
    pub count: i64,
}

/// A row of `collects`.
struct State {
    exists: bool,
    active: bool,
    seq: i64,
}

/// Applies all wishes in one transaction; returns the outcome of each, in their order. After an error the connection is
/// good for nothing but [`WriteConnection::discard`], and nothing was done, unless it was the commit that failed: then
/// the outcome is unknown, and the same call again settles it.
pub async fn grant(
    connection: &mut WriteConnection,
    events: &CollectEvents,
    owner: &str,
    wishes: &[Wish],
) -> Result<Vec<Granted>, Error> {
    // Those of one row stay in the order they came in.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|at| (&wishes[*at].subject_id, &wishes[*at].actor_id));
    connection.run(connection.dialect().begin).await?;
    let now_ms = connection.fetch(format!("SELECT {}", connection.dialect().now_ms), &[], |row| row.int(0)).await?;
    let now_ms = now_ms.first().copied().unwrap_or(0);
    let mut granted = vec![Granted { changed: false, count: 0 }; wishes.len()];
    let (mut numbered, mut added) = (Vec::new(), BTreeMap::<&str, i64>::new());
    for same in order.chunk_by(|a, b| row(&wishes[*a]) == row(&wishes[*b])) {
        let mut state = lock(connection, &wishes[same[0]]).await?;
        let exists = state.exists;
        let sum = added.entry(&wishes[same[0]].subject_id).or_default();
        for at in same {
            let wish = &wishes[*at];
            if state.active != wish.active {
                state = State { exists: true, active: wish.active, seq: now_ms.max(state.seq + 1) };
                *sum += if wish.active { 1 } else { -1 };
                granted[*at].changed = true;
                numbered.push((*at, state.seq));
            }
            // The sum of this transaction alone; the stored count is added once it was read.
            granted[*at].count = *sum;
        }
        if let Some(last) = same.iter().rev().find(|at| granted[**at].changed) {
            write(connection, &wishes[*last], exists, state.seq).await?;
        }
    }
    for (subject_id, sum) in added {
        let count = count(connection, subject_id, sum).await?;
        let of_subject = order.iter().filter(|at| wishes[**at].subject_id == subject_id);
        of_subject.for_each(|at| granted[*at].count += count - sum);
    }
    for (at, seq) in numbered {
        add_to_outbox(connection, events, owner, &wishes[at], seq).await?;
    }
    connection.run("COMMIT").await?;
    Ok(granted)
}

fn row(wish: &Wish) -> (&str, &str) {
    (&wish.subject_id, &wish.actor_id)
}

/// The row of an actor and a subject, which no other transaction changes from now on. One that is not there cannot be
/// locked: of two transactions that insert it, the second has to try again.
async fn lock(connection: &mut WriteConnection, wish: &Wish) -> Result<State, Error> {
    let sql = format!(
        "SELECT active, seq FROM collects WHERE actor_id = ? AND subject_id = ?{}",
        connection.dialect().for_update
    );
    let found = connection
        .fetch(sql, &[&wish.actor_id, &wish.subject_id], |row| {
            Ok(State { exists: true, active: row.int(0)? == 1, seq: row.int(1)? })
        })
        .await?;
    Ok(found.into_iter().next().unwrap_or(State { exists: false, active: false, seq: 0 }))
}

async fn write(connection: &mut WriteConnection, wish: &Wish, exists: bool, seq: i64) -> Result<(), Error> {
    let (active, seq, at) = (if wish.active { "1" } else { "0" }, seq.to_string(), wish.at_ms.to_string());
    if exists {
        let sql = "UPDATE collects SET active = ?, seq = ?, occurred_at = ?, updated_at = ?
                   WHERE actor_id = ? AND subject_id = ?";
        return connection.execute(sql, &[active, &seq, &at, &at, &wish.actor_id, &wish.subject_id]).await;
    }
    let sql = "INSERT INTO collects (actor_id, subject_id, active, seq, occurred_at, created_at, updated_at)
               VALUES (?, ?, ?, ?, ?, ?, ?)";
    connection.execute(sql, &[&wish.actor_id, &wish.subject_id, active, &seq, &at, &at, &at]).await
}

/// How many have collected a subject, once `sum` is added.
async fn count(connection: &mut WriteConnection, subject_id: &str, sum: i64) -> Result<i64, Error> {
    if sum != 0 {
        connection.execute(connection.dialect().add_count, &[subject_id, &sum.to_string()]).await?;
    }
    let sql = "SELECT value FROM collect_counts WHERE subject_id = ?";
    let found = connection.fetch(sql, &[subject_id], |row| row.int(0)).await?;
    Ok(found.first().copied().unwrap_or(0))
}

async fn add_to_outbox(
    connection: &mut WriteConnection,
    events: &CollectEvents,
    owner: &str,
    wish: &Wish,
    seq: i64,
) -> Result<(), Error> {
    let request = hex(&wish.request);
    let fields = EventFields {
        event_id: Some(request.as_str().into()),
        event_type: Some(if wish.active { &*events.on } else { &*events.off }.into()),
        actor_id: Some(wish.actor_id.as_str().into()),
        subject_id: Some(wish.subject_id.as_str().into()),
        occurred_at_ms: Some(wish.at_ms),
        ..EventFields::default()
    };
    let mut event = Vec::new();
    fields.write_json(&mut event);
    let event = String::from_utf8(event).map_err(|e| Error::Encode(e.into()))?;
    let now_ms = connection.dialect().now_ms;
    let sql = format!(
        "INSERT INTO outbox (owner, claimed_at, actor_id, seq, request, event, created_at)
         VALUES (?, {now_ms}, ?, ?, ?, ?, {now_ms})"
    );
    connection.execute(sql, &[owner, &wish.actor_id, &seq.to_string(), &request, &event]).await
}
