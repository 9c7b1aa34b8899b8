//! The tables that the sink writes, and the order of their columns.

use tally_model::OutputType;

/// A table, as a dialect needs to know it to write an upsert. A table may have several forms of rows: most leave out
/// columns that few need.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Whether its rows are of the form that leaves columns out.
    pub is_short: bool,
    /// The primary key.
    pub keys: &'static [&'static str],
    /// Further columns of the primary key, which rows of this form leave at their default.
    pub default_keys: &'static [&'static str],
    /// The rest, in the order in which they are assigned: `version`, where there is one, comes last, because MySQL
    /// assigns from left to right and the guard looks at it.
    pub values: &'static [Column],
    /// The columns outside the key that rows of this form leave at null: an update sets them back.
    pub nulls: &'static [&'static str],
}

/// A column outside the key.
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// How a newer row changes it.
    pub update: Update,
}

/// How a newer row changes a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The newer value wins.
    Replace,
    /// The smaller value wins.
    Least,
    /// The newer value wins, and a row with a smaller one changes nothing.
    Guard,
}

const fn replace(name: &'static str) -> Column {
    Column { name, update: Update::Replace }
}

const VERSION: Column = Column { name: "version", update: Update::Guard };

impl Table {
    /// Whether rows carry a version.
    pub fn is_guarded(&self) -> bool {
        self.values.last().is_some_and(|column| column.update == Update::Guard)
    }

    /// All columns of a row, keys first.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().copied().chain(self.values.iter().map(|column| column.name))
    }
}

/// A table with one form of rows.
const fn table(name: &'static str, keys: &'static [&'static str], values: &'static [Column]) -> Table {
    Table { name, is_short: false, keys, default_keys: &[], values, nulls: &[] }
}

/// Integers of 64 bits.
pub static COUNTERS: Table = Table {
    is_short: true,
    nulls: &["decimal_value", "text_value"],
    ..table(OutputType::Counters.tables()[0], &["subject_id", "metric"], &[replace("value"), VERSION])
};

/// Values of every type.
pub static TYPED_COUNTERS: Table = table(
    OutputType::Counters.tables()[0],
    &["subject_id", "metric"],
    &[replace("value"), replace("decimal_value"), replace("text_value"), VERSION],
);

/// Integers of 64 bits in tumbling windows.
pub static COUNTER_WINDOWS: Table = Table {
    is_short: true,
    default_keys: &["window_kind"],
    nulls: &["variable_end", "decimal_value", "text_value", "deleted"],
    ..table(
        OutputType::CounterWindow.tables()[0],
        &["subject_id", "metric", "window_ms", "window_start"],
        &[replace("value"), VERSION],
    )
};

/// Values of every type in windows of every kind, and windows that do not exist any more.
pub static TYPED_COUNTER_WINDOWS: Table = table(
    OutputType::CounterWindow.tables()[0],
    &["subject_id", "metric", "window_ms", "window_start", "window_kind"],
    &[
        replace("variable_end"),
        replace("value"),
        replace("decimal_value"),
        replace("text_value"),
        replace("deleted"),
        VERSION,
    ],
);

pub static REACTIONS: Table = table(
    OutputType::Reaction.tables()[0],
    &["actor_id", "metric", "subject_id"],
    &[
        replace("active"),
        replace("occurred_at"),
        Column { name: "created_at", update: Update::Least },
        replace("updated_at"),
        VERSION,
    ],
);

pub static BOARDS: Table =
    table(OutputType::Ranking.tables()[0], &["board"], &[replace("items"), replace("as_of"), VERSION]);

/// Not guarded: the writer holds the row of their board, and has compared its version.
pub static BOARD_ENTRIES: Table =
    table(OutputType::Ranking.tables()[1], &["board", "position"], &[replace("subject_id"), replace("score")]);

pub static VERDICTS: Table = table(
    OutputType::Verdict.tables()[0],
    &["partition", "offset"],
    &[
        replace("request"),
        replace("event_id"),
        replace("actor_id"),
        replace("verdict"),
        replace("reason"),
        replace("node"),
        replace("appended_at"),
        VERSION,
    ],
);

pub static DEAD_LETTERS: Table = table(
    OutputType::Raw.tables()[0],
    &["letter_topic", "letter_partition", "letter_offset"],
    &[
        replace("reason"),
        replace("detail"),
        replace("node"),
        replace("topic"),
        replace("partition"),
        replace("offset"),
        replace("key"),
        replace("value"),
        replace("appended_at"),
    ],
);

/// Not guarded: the writer has compared the positions before, and a reset or a replaced log may move them back.
pub static SINK_PROGRESS: Table = table(
    "sink_progress",
    &["topic", "partition"],
    &[
        replace("generation"),
        replace("next_offset"),
        replace("roots"),
        Column { name: "version", update: Update::Replace },
    ],
);

/// Every table, in each form of its rows.
pub static TABLES: [&Table; 10] = [
    &COUNTERS,
    &TYPED_COUNTERS,
    &COUNTER_WINDOWS,
    &TYPED_COUNTER_WINDOWS,
    &REACTIONS,
    &BOARDS,
    &BOARD_ENTRIES,
    &VERDICTS,
    &DEAD_LETTERS,
    &SINK_PROGRESS,
];
