//! `GET /v1/dead-letters`: the records that no processor could take, the newest first.

use super::described::PageParams;
use super::paging::{paging, refused_cursor};
use super::query::{Query, refused};
use super::reply::of_moment;
use crate::database::{DeadLetterFilter, DeadLetterRow, KEY_BYTES_MAX, ReasonRow};
use crate::state::Api;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use tally_http::ApiProblem;
use tally_model::format_ms;
use utoipa::ToSchema;

/// How much of a record's value is answered where nothing is asked for, and at most: whatever an ingest API took fits.
const PAYLOAD_BYTES_DEFAULT: usize = 2 << 10;
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// What a refusal calls it.
const LIST: &str = "list";

/// Records that no processor could take, the newest first.
#[derive(Serialize, ToSchema)]
pub struct DeadLettersAnswer {
    /// At most `limit`.
    items: Vec<DeadLetter>,
    /// The cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// A record that a processor could not handle.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// When it became a dead letter (RFC 3339).
    at: String,
    /// The reason: the same text for all records with the same mistake.
    #[schema(required = true)]
    reason: Option<String>,
    /// The ids, positions or values that are wrong in this record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    /// The processor that could not handle it.
    #[schema(required = true)]
    node: Option<String>,
    /// The topic of the record.
    #[schema(required = true)]
    topic: Option<String>,
    /// Its partition there.
    #[schema(required = true)]
    partition: Option<i64>,
    /// Its offset there.
    #[schema(required = true)]
    offset: Option<i64>,
    /// The beginning of its key as text; invalid UTF-8 is replaced.
    #[schema(required = true)]
    key: Option<String>,
    /// The beginning of its value, as text.
    #[schema(required = true)]
    payload: Option<String>,
    /// Size of the whole value; `payload` may be cut.
    payload_bytes: u64,
}

/// Reasons of dead letters, most frequent first.
#[derive(Serialize, ToSchema)]
pub struct ReasonsAnswer {
    /// At most 100.
    items: Vec<ReasonItem>,
    /// Number of dead letters counted: the newest, at most 10,000.
    looked_at: u64,
}

/// Dead letters of one processor for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ReasonItem {
    /// Their reason.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// The processor that could not handle them.
    #[schema(required = true)]
    pub node: Option<String>,
    /// Number of these dead letters.
    pub count: u64,
    /// When the oldest of them became a dead letter (RFC 3339).
    pub first: String,
    /// When the newest did.
    pub last: String,
}

/// The list that a cursor is valid for: no reason and no node name contains a NUL.
fn filter_of(filter: DeadLetterFilter<'_>) -> String {
    let part = |name: &str, value: Option<&str>| value.map_or(String::new(), |value| format!("\0{name}={value}"));
    format!("dead letters{}{}", part("reason", filter.reason), part("node", filter.node))
}

impl From<ReasonRow> for ReasonItem {
    fn from(ReasonRow { reason, node, count, first_ms, last_ms }: ReasonRow) -> Self {
        Self { reason, node, count, first: format_ms(first_ms), last: format_ms(last_ms) }
    }
}

impl DeadLetter {
    /// The item of a row; its value is cut at `payload_bytes_max`.
    fn of(DeadLetterRow { letter, value_bytes, .. }: DeadLetterRow, payload_bytes_max: usize) -> Self {
        Self {
            at: format_ms(letter.appended_at_ms),
            reason: letter.reason,
            detail: letter.detail,
            node: letter.node,
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            key: letter.key.map(|bytes| text(&bytes, KEY_BYTES_MAX)),
            payload: letter.value.map(|bytes| text(&bytes, payload_bytes_max)),
            payload_bytes: value_bytes.max(0) as u64,
        }
    }
}

/// Records that no processor could handle, newest first, with the reason and the beginning of their payload.
///
/// The database keeps them for its retention. Pages continue after the last item of the previous page.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "operations",
    params(
        PageParams,
        ("reason" = Option<String>, Query, description = "Only records with exactly this reason; empty: records without one"),
        ("node" = Option<String>, Query, description = "Only records of this processor; empty: records without one"),
        ("payload_bytes_max" = Option<u32>, Query, minimum = 1, maximum = 65_536, description = "Payload bytes to return; 2048 by default"),
    ),
    responses(
        (status = 200, description = "The dead letters; empty if there are none", body = DeadLettersAnswer),
        (status = 400, description = "Invalid cursor or parameter", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No sink of the topology stores dead letters", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not respond; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn dead_letters(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    let query = Query::parse(query.as_deref(), &["limit", "cursor", "reason", "node", "payload_bytes_max"])?;
    stored(&api)?;
    let payload_bytes_max = payload_bytes_max(&query)?;
    let filter = DeadLetterFilter { reason: query.one("reason")?, node: query.one("node")? };
    let paging = paging(&api, &query, filter_of(filter), LIST)?;
    let behind = paging.cursor.as_ref().map(|cursor| {
        let place = place(&cursor.id).ok_or_else(|| refused_cursor(LIST))?;
        Ok::<_, ApiProblem>((cursor.order, place))
    });
    let mut rows =
        api.reads.database.dead_letters(filter, behind.transpose()?, paging.limit + 1, payload_bytes_max).await?;
    let place_of = |row: &DeadLetterRow| (row.letter.appended_at_ms, format!("{}/{}", row.place.0, row.place.1));
    let next = paging.cut(&api.receipt_key, &mut rows, place_of);
    of_moment(&DeadLettersAnswer {
        items: rows.into_iter().map(|row| DeadLetter::of(row, payload_bytes_max)).collect(),
        next,
    })
}

/// The newest dead letters counted by reason and processor, most frequent first.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/reasons",
    tag = "operations",
    responses(
        (status = 200, description = "The reasons; empty if there are no dead letters", body = ReasonsAnswer),
        (status = 400, description = "A parameter was sent; the route has none", body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "No sink of the topology stores dead letters", body = ApiProblem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not respond; see Retry-After", body = ApiProblem, content_type = "application/problem+json"),
    ),
)]
pub async fn reasons(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, ApiProblem> {
    Query::parse(query.as_deref(), &[])?;
    stored(&api)?;
    let (items, looked_at) = api.reads.database.dead_letter_reasons().await?;
    of_moment(&ReasonsAnswer { items: items.into_iter().map(ReasonItem::from).collect(), looked_at })
}

/// The requested length of each payload.
fn payload_bytes_max(query: &Query<'_>) -> Result<usize, ApiProblem> {
    let Some(text) = query.one("payload_bytes_max")? else { return Ok(PAYLOAD_BYTES_DEFAULT) };
    let bytes = text.parse().ok().filter(|bytes| (1..=PAYLOAD_BYTES_MAX).contains(bytes));
    bytes.ok_or_else(|| refused("`payload_bytes_max`", &format!("must be a number from 1 to {PAYLOAD_BYTES_MAX}")))
}

/// Whether there are any to read.
fn stored(api: &Api) -> Result<(), ApiProblem> {
    match api.reads.config.dead_letters {
        true => Ok(()),
        false => Err(ApiProblem::not_found("No database sink of the topology reads the topic `dead-letters`.")),
    }
}

/// Partition and offset, from a cursor.
fn place(id: &str) -> Option<(i64, i64)> {
    let (partition, offset) = id.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// Bytes as text. Where they were cut within a character, that one is left out.
fn text(bytes: &[u8], bytes_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    match std::str::from_utf8(bytes) {
        // Incomplete at the end, and as long as what is read at most: the cut did that.
        Err(error) if error.error_len().is_none() && bytes.len() >= bytes_max => {
            text.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
        }
        _ => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_cut_is_left_out_and_a_wrong_one_is_shown() {
        for (bytes, expected) in [
            (&b"abc"[..], "abc"),
            (&[b'a', b'b', 0xc3], "ab"),
            (&[b'a', 0xff, b'b'], "a\u{fffd}b"),
            (&[b'a', 0xc3], "a\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(text(bytes, 3), expected, "{bytes:?}");
        }
    }
}
