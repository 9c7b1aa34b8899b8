//! Lines that the ingest API must reject. Each has a well-formed id if possible, so that one that slips through is
//! found.

use super::random::Random;
use std::io::{self, Write};

/// How many kinds there are.
pub const KINDS: u64 = 22;

/// Writes an invalid line. `id` is one that no other line has.
pub fn write_garbage(out: &mut Vec<u8>, kind: u64, id: &str, random: &mut Random, time_ms: i64) -> io::Result<()> {
    let actor = random.below(1_000);
    let rest = format!(r#""actor_id":"u{actor}","subject_id":"article:7""#);
    let head = format!(r#"{{"event_id":"{id}","type":"view",{rest}"#);
    match kind {
        0 => write!(out, "no JSON at all, number {actor}"),
        1 => write!(out, r#"{head},"occurred_at":{time_ms}"#),
        2 => write!(out, r#"{head},"occured_at":{time_ms}}}"#),
        3 => write!(out, r#"{{"event_id":"{id} x","type":"view",{rest},"occurred_at":{time_ms}}}"#),
        4 => write!(out, r#"{{"type":"view",{rest},"occurred_at":{time_ms}}}"#),
        5 => write!(out, r#"{{"event_id":"{id}","type":"view","actor_id":"u{actor}","subject_id":"7"}}"#),
        6 => write!(out, r#"{{"event_id":"{id}","type":"view","actor_id":"u{actor}","subject_id":"Article:7"}}"#),
        7 => write!(out, r#"{{"event_id":"{id}","type":"clap",{rest},"occurred_at":{time_ms}}}"#),
        8 => write!(out, r#"{{"event_id":"{id}","type":"read",{rest},"occurred_at":{time_ms}}}"#),
        9 => write!(out, r#"{{"event_id":"{id}","type":"view","actor_id":{actor},"subject_id":"article:7"}}"#),
        10 => write!(out, r#"{{"event_id":"{id}","type":"view","actor_id":"u{{{actor}}}","subject_id":"article:7"}}"#),
        11 => write!(out, r#"{{"event_id":"{id}","type":"like","subject_id":"article:7","occurred_at":{time_ms}}}"#),
        12 => write!(out, r#"{head},"occurred_at":"yesterday"}}"#),
        13 => write!(out, r#"{head},"duration_ms":-1}}"#),
        14 => write!(out, r#"{head},"ip":"192.0.2"}}"#),
        15 => write!(out, r#"{head},"properties":{{"source":{{"feed":1}}}}}}"#),
        16 => write!(out, "[{actor},2,3]"),
        17 => write!(out, "null"),
        18 => write!(out, r#"{head},"type":"like"}}"#),
        // The last moment of the year 9999: ahead whenever the line is sent.
        19 => write!(out, r#"{head},"occurred_at":253402300799000}}"#),
        20 => write!(out, r#"{head},"occurred_at":{time_ms}}} and more"#),
        _ => {
            write!(out, r#"{{"event_id":"{id}","type":"view","actor_id":"u"#)?;
            // Never part of UTF-8.
            out.push(0xff);
            write!(out, r#"","subject_id":"article:7","occurred_at":{time_ms}}}"#)
        }
    }
}
