//! The tables that the sink writes, and the order of their columns.

use tally_model::OutputType;

/// A table, as a dialect needs to know it to write an upsert.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The primary key.
    pub keys: &'static [&'static str],
    /// The rest, in the order in which they are assigned: `version`, where there is one, comes last, because MySQL
    /// assigns from left to right and the guard looks at it.
    pub values: &'static [Column],
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

    /// All columns, keys first.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.keys.iter().copied().chain(self.values.iter().map(|column| column.name))
    }
}

pub static COUNTERS: Table = Table {
    name: OutputType::Counters.tables()[0],
    keys: &["subject_id", "metric"],
    values: &[replace("value"), VERSION],
};

pub static COUNTER_WINDOWS: Table = Table {
    name: OutputType::CounterWindow.tables()[0],
    keys: &["subject_id", "metric", "window_ms", "window_start"],
    values: &[replace("value"), VERSION],
};

pub static REACTIONS: Table = Table {
    name: OutputType::Reaction.tables()[0],
    keys: &["actor_id", "metric", "subject_id"],
    values: &[
        replace("active"),
        replace("occurred_at"),
        Column { name: "created_at", update: Update::Least },
        replace("updated_at"),
        VERSION,
    ],
};

pub static BOARDS: Table = Table {
    name: OutputType::Ranking.tables()[0],
    keys: &["board"],
    values: &[replace("items"), replace("as_of"), VERSION],
};

/// Not guarded: the writer holds the row of their board, and has compared its version.
pub static BOARD_ENTRIES: Table = Table {
    name: OutputType::Ranking.tables()[1],
    keys: &["board", "position"],
    values: &[replace("subject_id"), replace("score")],
};

pub static VERDICTS: Table = Table {
    name: OutputType::Verdict.tables()[0],
    keys: &["partition", "offset"],
    values: &[
        replace("request"),
        replace("event_id"),
        replace("actor_id"),
        replace("verdict"),
        replace("reason"),
        replace("node"),
        replace("appended_at"),
        VERSION,
    ],
};

pub static DEAD_LETTERS: Table = Table {
    name: OutputType::Raw.tables()[0],
    keys: &["letter_topic", "letter_partition", "letter_offset"],
    values: &[
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
};

/// Not guarded: the writer has compared the positions before, and a reset or a replaced log may move them back.
pub static SINK_PROGRESS: Table = Table {
    name: "sink_progress",
    keys: &["topic", "partition"],
    values: &[
        replace("generation"),
        replace("next_offset"),
        replace("roots"),
        Column { name: "version", update: Update::Replace },
    ],
};

/// Every table.
pub static TABLES: [&Table; 8] =
    [&COUNTERS, &COUNTER_WINDOWS, &REACTIONS, &BOARDS, &BOARD_ENTRIES, &VERDICTS, &DEAD_LETTERS, &SINK_PROGRESS];
