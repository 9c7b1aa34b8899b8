//! The first pages of boards as they were made a moment ago: most readers of a board request the same page, and each
//! request would read and serialize the counters of all its subjects again.

use super::written::Written;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most pages kept: boards times the lengths that are requested.
const PAGES_MAX: usize = 256;

/// Pages by board and length.
#[derive(Default)]
pub struct BoardPages(Mutex<HashMap<(String, usize), Page>>);

struct Page {
    made_at: Instant,
    written: Arc<Written>,
}

impl BoardPages {
    /// The page, if it is younger than `age_max`.
    pub fn get(&self, board: &str, limit: usize, age_max: Duration) -> Option<Arc<Written>> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let page = pages.get(&(board.to_owned(), limit)).filter(|page| page.made_at.elapsed() < age_max)?;
        Some(page.written.clone())
    }

    /// Keeps a page; `made_at` is when its making began.
    pub fn put(&self, board: &str, limit: usize, made_at: Instant, written: Arc<Written>) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= PAGES_MAX {
            pages.clear();
        }
        pages.insert((board.to_owned(), limit), Page { made_at, written });
    }
}
