//! Properties to aggregate: decimals, whole numbers and texts, some of them hard to read, some impossible.

use super::random::Random;
use std::io::{self, Write};

/// As JSON: `id()` has something to escape, and the empty one is a campaign too.
const CAMPAIGNS: [&str; 8] = ["spring", "summer", "", "50% off", "a{b}c", "gr\u{fc}n gelb", "x y", r"tab\tnew\nline"];
const NOTES: [&str; 6] = ["mail", "feed", r#"'); DROP TABLE counters; -- \" ${x}"#, "\u{7528}\u{6237}", "0.50", ""];
/// Visitors come in octaves: whatever the rate, the events of some are about as far apart as a session lasts.
const OCTAVES: std::ops::Range<u64> = 2..12;

/// Appends `properties` to an event. Those of a `read` fit `decimal(2)` and `int`; those of a `view` are anything.
pub fn write_values(out: &mut Vec<u8>, event_type: &str, random: &mut Random) -> io::Result<()> {
    let is_free = event_type == "view";
    write!(out, r#","properties":{{"points":{}"#, random.below(501) as i64 - 250)?;
    if random.chance(4_000) {
        let octave = 1 << (OCTAVES.start + random.below(OCTAVES.end - OCTAVES.start));
        write!(out, r#","visitor":"v{}""#, octave + random.below(octave))?;
    }
    if random.chance(6_000) {
        write!(out, r#","campaign":"{}""#, CAMPAIGNS[random.below(CAMPAIGNS.len() as u64) as usize])?;
    }
    if random.chance(7_000) {
        write!(out, r#","note":"{}""#, NOTES[random.below(NOTES.len() as u64) as usize])?;
    }
    let (sign, whole, part) = (if random.chance(3_000) { "-" } else { "" }, random.below(3_000), random.below(100));
    match random.below(12) {
        0..2 => {}
        2 => write!(out, r#","price":{sign}{whole}"#)?,
        3 => write!(out, r#","price":{sign}{whole}.{}"#, part % 10)?,
        4 if is_free => write!(out, r#","price":{sign}{}e-2"#, whole * 100 + part)?,
        5 if is_free => write!(out, r#","price":{sign}{whole}.{part:02}E1"#)?,
        // Sums of these have more than 64 bits.
        6 if is_free => write!(out, r#","price":{sign}9{whole:04}00000000000000{part:02}.{part:02}"#)?,
        // No value with two decimals.
        7 if is_free && random.chance(500) => write!(out, r#","price":{sign}{whole}.{part:02}1"#)?,
        8 if is_free && random.chance(500) => write!(out, r#","price":"{whole}""#)?,
        _ => write!(out, r#","price":{sign}{whole}.{part:02}"#)?,
    }
    out.push(b'}');
    Ok(())
}
