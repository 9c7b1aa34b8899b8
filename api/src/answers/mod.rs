//! Answers.

pub mod board_pages;
pub mod cursor;
pub mod paging;
