//! Reads an event in one pass, in the form that nearly all events have: the known fields, each once, without escapes.
//!
//! Every other input, invalid input included, is left to the general parser, which alone decides validity and error
//! messages. A property test holds both to the same result.

use crate::fields::{EventFields, UnknownFields};
use crate::moment::OCCURRED_AT_MS;
use crate::{looks_like_seconds, parse_ms};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The most digits of which every number fits `i64`.
const DIGITS_MAX: usize = 18;

/// The fields of an event of the usual form; None for everything else.
pub(crate) fn scan(json: &[u8], unknown: UnknownFields) -> Option<EventFields<'_>> {
    // Once for all texts, which are cut out of it at quotes.
    let mut scanner = Scanner { text: std::str::from_utf8(json).ok()?, at: 0 };
    let strict = unknown == UnknownFields::Refuse;
    let mut fields = EventFields { unique_properties: strict, ..EventFields::default() };
    if scanner.next()? != b'{' {
        return None;
    }
    loop {
        let name = scanner.text()?;
        if scanner.next()? != b':' {
            return None;
        }
        match name {
            "event_id" => set(&mut fields.event_id, scanner.text().map(Cow::Borrowed)?)?,
            "type" => set(&mut fields.event_type, scanner.text().map(Cow::Borrowed)?)?,
            "actor_id" => set(&mut fields.actor_id, scanner.text().map(Cow::Borrowed)?)?,
            "subject_id" => set(&mut fields.subject_id, scanner.text().map(Cow::Borrowed)?)?,
            "occurred_at" => set(&mut fields.occurred_at_ms, scanner.moment(strict)?)?,
            "ip" => set(&mut fields.ip, scanner.text().map(Cow::Borrowed)?)?,
            "user_agent" => set(&mut fields.user_agent, scanner.text().map(Cow::Borrowed)?)?,
            "duration_ms" => set(&mut fields.duration_ms, scanner.number()?)?,
            "properties" => set(&mut fields.properties, scanner.raw().map(Cow::Borrowed)?)?,
            _ => return None,
        }
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.next().is_none().then_some(fields)
}

/// None if the field is already set.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The byte behind white space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Takes the byte behind white space.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    /// A string without escapes.
    fn text(&mut self) -> Option<&'a str> {
        if self.next()? != b'"' {
            return None;
        }
        let begin = self.at;
        let end = begin + end_of_text(&self.text.as_bytes()[begin..])?;
        self.at = end + 1;
        self.text.get(begin..end)
    }

    /// A whole number from 0, without fraction and exponent: what follows it is for the caller to look at.
    fn number(&mut self) -> Option<i64> {
        let first = self.peek()?;
        let rest = &self.text.as_bytes()[self.at..];
        let (mut number, mut digits) = (0, 0);
        while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            if digits == DIGITS_MAX {
                return None;
            }
            number = number * 10 + i64::from(digit);
            digits += 1;
        }
        self.at += digits;
        (digits == 1 || digits > 1 && first != b'0').then_some(number)
    }

    /// Milliseconds, or RFC 3339.
    fn moment(&mut self, strict: bool) -> Option<i64> {
        if self.peek()? == b'"' {
            return parse_ms(self.text()?);
        }
        let time_ms = self.number()?;
        let is_refused = strict && (looks_like_seconds(time_ms) || time_ms > *OCCURRED_AT_MS.end());
        (!is_refused).then_some(time_ms)
    }

    /// Any value, as it was sent.
    fn raw(&mut self) -> Option<&'a RawValue> {
        let mut values = serde_json::Deserializer::from_str(self.text.get(self.at..)?).into_iter();
        let value = values.next()?.ok();
        self.at += values.byte_offset();
        value
    }
}

/// Where the string ends: its closing quote. None where an escape or a control character comes before it.
fn end_of_text(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    // The highest bit of each byte that is 0; above the first of them perhaps of others, too.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let (quotes, escapes) = (zeros(word ^ (ONES * 0x22)), zeros(word ^ (ONES * 0x5c)));
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = quotes | escapes | controls;
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            return (bytes[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let ends = |byte: &u8| matches!(*byte, 0..0x20 | b'"' | b'\\');
    at += bytes[at..].iter().position(ends)?;
    (bytes[at] == b'"').then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::FIELDS;
    use proptest::prelude::*;

    /// What is in the fields, for comparison.
    fn seen(fields: &EventFields<'_>) -> String {
        let mut out = Vec::new();
        fields.write_json(&mut out);
        format!("{} {fields:?}", String::from_utf8_lossy(&out))
    }

    /// Whether the scanner reads it. If so, its result must be that of the general parser.
    fn check(json: &[u8]) -> bool {
        let modes = [UnknownFields::Refuse, UnknownFields::Ignore];
        let taken = modes.map(|unknown| {
            let Some(scanned) = scan(json, unknown) else { return false };
            let parsed = EventFields::parse_any(json, unknown);
            let parsed = parsed.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(json)));
            assert_eq!(seen(&scanned), seen(&parsed));
            true
        });
        taken[1]
    }

    #[test]
    fn the_usual_forms_are_taken() {
        for json in [
            r#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"article:7","occurred_at":1795247999000}"#,
            r#"{"event_id": "e1", "type": "like", "actor_id": "用户", "subject_id": "article:é"}"#,
            r#"{"occurred_at":"2026-11-21T08:00:00.123Z","subject_id":"a:1","actor_id":"u","type":"read","event_id":"e"}"#,
            r#"{"event_id":"e1","properties":{"a":{"b":[1,"\"}"]}},"duration_ms":0}"#,
            "\n{ \"ip\" :\t\"::1\" , \"properties\" : 5 , \"user_agent\":\"a longer text than eight bytes\" } \r\n",
        ] {
            assert!(check(json.as_bytes()), "{json}");
        }
    }

    #[test]
    fn all_else_is_left_to_the_general_parser() {
        for json in [
            "",
            "{}",
            "[]",
            "{",
            r#"{"event_id""#,
            r#"{"event_id":"e1"} x"#,
            r#"{"event_id":"e1"}}"#,
            r#"{"event_id":"e1",}"#,
            r#"{"event_id":"e1" "type":"x"}"#,
            r#"{"event_id":"e1","event_id":"e2"}"#,
            r#"{"event_id":"e\n"}"#,
            r#"{"event\u005fid":"e"}"#,
            "{\"event_id\":\"e\n\"}",
            "{\"event_id\":\"a longer one\x01 \\ \"}",
            r#"{"event_id":7}"#,
            r#"{"event_id":null}"#,
            r#"{"next_year":1}"#,
            r#"{"occurred_at":01}"#,
            r#"{"occurred_at":-1}"#,
            r#"{"occurred_at":1.5}"#,
            r#"{"occurred_at":1e3}"#,
            r#"{"occurred_at":1795247999000000000}"#,
            r#"{"occurred_at":"soon"}"#,
            r#"{"duration_ms":"1"}"#,
            r#"{"properties":{"a":}}"#,
            r#"{"properties":}"#,
        ] {
            assert!(!check(json.as_bytes()), "{json}");
        }
        assert!(!check(b"{\"event_id\":\"\xff\"}"));
        // Only where unknown fields are refused, a number may not be of seconds.
        assert!(check(br#"{"occurred_at":1795247999}"#));
        assert!(scan(br#"{"occurred_at":1795247999}"#, UnknownFields::Refuse).is_none());
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ -~é\\\\\"]{0,20}".prop_map(|text| format!("\"{text}\"")),
            2 => any::<u64>().prop_map(|number| number.to_string()),
            2 => (0i64..3_000_000_000_000).prop_map(|number| number.to_string()),
            1 => any::<f64>().prop_map(|number| number.to_string()),
            1 => "(true|null|-1|01|\\[\\]|\\{\"a\":1\\}|\"2026-11-21T08:00:00Z\"|\"\\\\u0061\"|)".prop_map(String::from),
        ]
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop_oneof![9 => prop::sample::select(FIELDS), 1 => Just("other")]
    }

    proptest! {
        #[test]
        fn what_is_scanned_is_what_is_parsed(
            members in prop::collection::vec((name(), value(), "[ \n]{0,2}"), 0..7),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
            byte in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let members: Vec<_> =
                members.iter().map(|(name, value, blank)| format!("{blank}\"{name}\"{blank}:{blank}{value}{blank}")).collect();
            let mut json = format!("{{{}}}", members.join(",")).into_bytes();
            if let Some(cut) = cut {
                json.truncate(cut.index(json.len()));
            }
            if let Some((at, byte)) = byte.filter(|_| !json.is_empty()) {
                let at = at.index(json.len());
                json[at] = byte;
            }
            check(&json);
        }

        #[test]
        fn a_text_ends_at_its_first_quote(text in "[a-z\"\\\\\u{0}\u{1f}\u{7f}é]{0,40}") {
            let ends = |byte: &u8| matches!(*byte, 0..0x20 | b'"' | b'\\');
            let first = text.bytes().position(|byte| ends(&byte)).filter(|at| text.as_bytes()[*at] == b'"');
            prop_assert_eq!(end_of_text(text.as_bytes()), first);
        }
    }
}
