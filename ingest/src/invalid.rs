//! Why an event is invalid, in words that help its sender.

use std::borrow::Cow;
use std::fmt;
use tally_model::EventError;

/// Strangers' words are repeated only up to here.
const TEXT_BYTES_MAX: usize = 300;
/// Longer names are no spelling mistakes.
const NAME_BYTES_MAX: usize = 48;
/// Names of an event's fields in other systems, where the spelling gives no hint.
const SYNONYMS: &[(&str, &str)] = &[
    ("id", "event_id"),
    ("kind", "type"),
    ("action", "type"),
    ("user", "actor_id"),
    ("userid", "actor_id"),
    ("uid", "actor_id"),
    ("target", "subject_id"),
    ("object", "subject_id"),
    ("objectid", "subject_id"),
    ("time", "occurred_at"),
    ("timestamp", "occurred_at"),
    ("duration", "duration_ms"),
    ("data", "properties"),
];
/// The fields of an event.
pub(crate) const EVENT_FIELDS: &[&str] =
    &["event_id", "type", "actor_id", "subject_id", "occurred_at", "ip", "user_agent", "duration_ms", "properties"];

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvalidEvent {
    /// Not JSON, or not of the right shape.
    Shape(String),
    /// One field breaks its rule.
    Field { field: &'static str, reason: Cow<'static, str> },
}

impl InvalidEvent {
    pub(crate) fn field(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Field { field, reason: reason.into() }
    }

    /// Out of serde's message, which has no other form. `fields` are those that could have been meant.
    pub(crate) fn shape(message: &str, fields: &[&'static str]) -> Self {
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected"));
        let Some((name, _)) = unknown else { return Self::Shape(message.to_owned()) };
        let said = shorten(name, NAME_BYTES_MAX);
        Self::Shape(match meant(name, fields) {
            Some(field) => format!("unknown field `{said}` (did you mean `{field}`?)"),
            None => format!("unknown field `{said}`; known fields: {}", fields.join(", ")),
        })
    }

    /// The same refusal with the field's name in another format.
    pub(crate) fn renamed(self, name: impl Fn(&'static str) -> &'static str) -> Self {
        match self {
            Self::Field { field, reason } => Self::Field { field: name(field), reason },
            shape => shape,
        }
    }
}

impl From<EventError> for InvalidEvent {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Shape(message) => Self::shape(&message, EVENT_FIELDS),
            EventError::Field { field, reason } => Self::Field { field, reason },
        }
    }
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(text) => f.write_str(&shorten(text, TEXT_BYTES_MAX)),
            Self::Field { field, reason } => write!(f, "`{field}` {}", shorten(reason, TEXT_BYTES_MAX)),
        }
    }
}

/// A text cut to at most this many bytes, with a mark where it was cut.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> Cow<'_, str> {
    match text.len() <= bytes_max {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(bytes_max)])),
    }
}

fn meant(name: &str, fields: &[&'static str]) -> Option<&'static str> {
    let plain = plain(name);
    let synonym = SYNONYMS.iter().find(|(other, field)| *other == plain && fields.contains(field));
    synonym.map(|(_, field)| *field).or_else(|| closest(name, fields.iter().copied()))
}

/// The known name that was probably meant: case and separators aside, at most one edit in three characters away.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let wanted = plain(name);
    let distances = known.into_iter().map(|other| (strsim::osa_distance(&wanted, &plain(other)), other));
    distances.filter(|(distance, other)| *distance <= other.len().div_ceil(3)).min().map(|(_, other)| other)
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_mistakes_find_what_was_meant() {
        for (name, expected) in [
            ("actorId", Some("actor_id")),
            ("actor", Some("actor_id")),
            ("Event-ID", Some("event_id")),
            ("subjct_id", Some("subject_id")),
            ("occuredat", Some("occurred_at")),
            ("userId", Some("actor_id")),
            ("timestamp", Some("occurred_at")),
            ("typ", Some("type")),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(meant(name, EVENT_FIELDS), expected, "{name}");
        }
    }

    #[test]
    fn long_words_are_cut_on_a_character() {
        let refusal = InvalidEvent::Shape("é".repeat(1000));
        let text = refusal.to_string();
        assert!(text.len() <= TEXT_BYTES_MAX + '…'.len_utf8() && text.ends_with("é…"), "{text}");
        let unknown = format!("unknown field `{}`, expected one of `a`", "x".repeat(1000));
        assert!(InvalidEvent::shape(&unknown, EVENT_FIELDS).to_string().contains("x…`; known fields: event_id, type"));
    }
}
