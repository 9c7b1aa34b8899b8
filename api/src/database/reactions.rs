//! What actors have switched on: rows of `reactions` and `collects`.

use super::{Columns, DatabaseError, ReadDatabase, padded, placeholders};
use std::collections::HashSet;

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
    /// The column that is compared, and the id.
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

impl ReadDatabase {
    /// Ids and times of a page, newest first: at most `limit`, behind the time and the id of an item.
    pub async fn page(
        &self,
        page: Page<'_>,
        switched: Switched<'_>,
        behind: Option<(i64, &str)>,
        limit: usize,
    ) -> Result<Vec<(String, i64)>, DatabaseError> {
        let Page { of: (column, id), items } = page;
        let behind = behind.map(|(time_ms, id)| (time_ms.to_string(), id));
        let mut parameters = vec![id];
        let (table, of_metric) = match switched {
            Switched::Reactions(metric) => {
                parameters.push(metric);
                ("reactions", " AND metric = ?")
            }
            Switched::Collects => ("collects", ""),
        };
        let mut condition = String::new();
        if let Some((time, id)) = &behind {
            // Numbers are bound as text, and every engine casts to this type.
            condition =
                format!(" AND (occurred_at < CAST(? AS SIGNED) OR (occurred_at = CAST(? AS SIGNED) AND {items} < ?))");
            parameters.extend([time.as_str(), time, id]);
        }
        let sql = format!(
            "SELECT {items}, occurred_at FROM {table} WHERE {column} = ?{of_metric} AND active = 1{condition} \
             ORDER BY occurred_at DESC, {items} DESC LIMIT {limit}"
        );
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?));
        self.fetch(sql, &parameters, read).await
    }

    /// What an actor has switched on, of these subjects and metrics.
    pub async fn switched_on(
        &self,
        actor_id: &str,
        metrics: &[String],
        subjects: &[&str],
    ) -> Result<HashSet<(String, String)>, DatabaseError> {
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
        let rows = self.fetch(sql, &parameters, read).await?;
        Ok(rows.into_iter().collect())
    }

    /// Which of these subjects an actor has collected.
    pub async fn collected(&self, actor_id: &str, subjects: &[&str]) -> Result<HashSet<String>, DatabaseError> {
        if subjects.is_empty() {
            return Ok(HashSet::new());
        }
        let parameters: Vec<_> = std::iter::once(actor_id).chain(padded(subjects)).collect();
        let list = placeholders(parameters.len() - 1);
        let sql =
            format!("SELECT subject_id FROM collects WHERE actor_id = ? AND subject_id IN ({list}) AND active = 1");
        let rows = self.fetch(sql, &parameters, |row| row.text(0)).await?;
        Ok(rows.into_iter().collect())
    }
}
