//! Dead letters: records that a node rejected, as the database stores them.

/// A row of `dead_letters` without the position of the dead letter itself. Fields are named after their columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeadLetter {
    /// The reason: the same text for all records with the same mistake.
    pub reason: Option<String>,
    /// The detail of this record.
    pub detail: Option<String>,
    /// The node that could not take the record.
    pub node: Option<String>,
    /// The topic of the record.
    pub topic: Option<String>,
    /// Its partition there.
    pub partition: Option<i64>,
    /// Its offset there.
    pub offset: Option<i64>,
    /// The record's key, byte by byte.
    pub key: Option<Vec<u8>>,
    /// The record's value, byte by byte.
    pub value: Option<Vec<u8>>,
    /// When the letter was written, milliseconds since 1970: the column `appended_at`.
    pub appended_at_ms: i64,
}

impl DeadLetter {
    /// From the record of a dead letter: its headers by name, its key and value, and its append time.
    pub fn read<'a>(
        header: impl Fn(&str) -> Option<&'a [u8]>,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        appended_at_ms: i64,
    ) -> Self {
        let text = |name| header(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let number = |name| text(name).and_then(|value| value.parse().ok());
        Self {
            reason: text("reason"),
            // Empty where the node had nothing to add.
            detail: text("detail").filter(|detail| !detail.is_empty()),
            node: text("node"),
            topic: text("topic"),
            partition: number("partition"),
            offset: number("offset"),
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            appended_at_ms,
        }
    }
}
