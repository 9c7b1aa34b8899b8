//! The functions that expressions have besides the standard library of CEL. Times are milliseconds since 1970, durations
//! milliseconds, both int; days and hours are those of UTC.

use super::id::id_of;
use crate::counting::windows::HOUR_MS;
use cel::common::types::{CelBool, CelInt, CelString, INT_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
use regex::Regex;
use std::cell::RefCell;
use std::collections::HashMap;
use tally_model::{format_ms, parse_ms};
use tally_streams::topology::parse_duration;

const DAY_MS: i64 = 24 * HOUR_MS;
/// 1970-01-01 was a Thursday, the fourth day of the week.
const FIRST_WEEKDAY: i64 = 4;

type Op = for<'b, 'v> fn(Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError>;

/// The standard library and the functions below.
pub fn env() -> Env {
    let mut env = Env::stdlib();
    let functions: [(&str, Type, Op); 7] = [
        ("hour", INT_TYPE, hour),
        ("day", INT_TYPE, day),
        ("weekday", INT_TYPE, weekday),
        ("host", STRING_TYPE, host),
        ("id", STRING_TYPE, id),
        ("timestamp", STRING_TYPE, timestamp),
        ("duration", STRING_TYPE, duration),
    ];
    for (name, argument, op) in functions {
        let added = env.add_overload(name, name, vec![argument], op);
        debug_assert!(added.is_ok(), "{name} is a function of the standard library");
    }
    let added = env.add_overload("matches", "matches", vec![STRING_TYPE, STRING_TYPE], matches);
    debug_assert!(added.is_ok());
    let added = env.add_member_overload("matches", "text_matches", STRING_TYPE, vec![STRING_TYPE], matches);
    debug_assert!(added.is_ok());
    env
}

fn argument<'a, T: TryFrom<&'a dyn Val>>(args: &'a [CowVal<'_, '_>], at: usize) -> Result<T, ExecutionError> {
    let argument = args.get(at).map(|argument| argument.as_ref());
    argument.and_then(|argument| T::try_from(argument).ok()).ok_or_else(ExecutionError::missing_argument_or_target)
}

fn number<'b, 'v>(value: i64) -> Result<CowVal<'b, 'v>, ExecutionError> {
    Ok(CowVal::owned(CelInt::from(value)))
}

fn text<'b, 'v>(value: String) -> Result<CowVal<'b, 'v>, ExecutionError> {
    Ok(CowVal::owned(CelString::from(value)))
}

/// The hour of the day, 0 to 23.
fn hour<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let time_ms: &i64 = argument(&args, 0)?;
    number(time_ms.rem_euclid(DAY_MS) / HOUR_MS)
}

/// The date: `2026-11-30`.
fn day<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let time_ms: &i64 = argument(&args, 0)?;
    let mut time = format_ms(*time_ms);
    time.truncate("2026-11-30".len());
    text(time)
}

/// The day of the week, 1 (Monday) to 7.
fn weekday<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let time_ms: &i64 = argument(&args, 0)?;
    number((time_ms.div_euclid(DAY_MS) + FIRST_WEEKDAY - 1).rem_euclid(7) + 1)
}

/// See [`host_of`].
fn host<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    text(host_of(argument(&args, 0)?))
}

/// See [`id_of`].
fn id<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    text(id_of(argument(&args, 0)?))
}

fn timestamp<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text: &str = argument(&args, 0)?;
    let time_ms = parse_ms(text).ok_or_else(|| ExecutionError::function_error("timestamp", NO_TIME));
    number(time_ms?)
}

fn duration<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    number(duration_ms(argument(&args, 0)?).map_err(|error| ExecutionError::function_error("duration", error))?)
}

/// The mistake in the argument of `timestamp`.
pub const NO_TIME: &str = "must be RFC 3339, like `2026-11-21T08:00:00Z`";

/// The argument of `duration` in milliseconds.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text)?;
    i64::try_from(duration.as_millis()).map_err(|_| "is too long".to_owned())
}

fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    thread_local! {
        /// By pattern. Patterns are literals of the file, so there are few.
        static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    let (text, pattern): (&str, &str) = (argument(&args, 0)?, argument(&args, 1)?);
    let found = PATTERNS.with_borrow_mut(|patterns| match patterns.get(pattern) {
        Some(regex) => Ok(regex.is_match(text)),
        None => {
            let regex = pattern_of(pattern).map_err(|error| ExecutionError::function_error("matches", error))?;
            let found = regex.is_match(text);
            patterns.insert(pattern.to_owned(), regex);
            Ok(found)
        }
    });
    Ok(CowVal::owned(CelBool::from(found?)))
}

/// A pattern of `matches`, or what is wrong with it in one line.
pub fn pattern_of(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| match &error {
        regex::Error::Syntax(said) => said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        error => error.to_string(),
    })
}

/// The host of a URL in lower case, without user, port and a dot at the end; empty where there is none. A text without
/// a scheme begins with the host.
pub fn host_of(url: &str) -> String {
    let rest = url.trim();
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    host.strip_suffix('.').unwrap_or(host).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        for (url, host) in [
            ("https://News.Example.com/a?b=http://c", "news.example.com"),
            ("http://user:secret@example.com:8080", "example.com"),
            ("https://[2001:DB8::1]:8443/x", "2001:db8::1"),
            ("//cdn.example.com./x", "cdn.example.com"),
            ("example.com/path", "example.com"),
            ("android-app://com.example.app/", "com.example.app"),
            ("/relative", ""),
            ("", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
