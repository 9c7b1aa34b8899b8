//! The tables that the sink writes, and the order of their columns.

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
    /// The newer value stands.
    Replace,
    /// The lesser value stands.
    Least,
    /// The newer value stands, and no row with a smaller one changes anything.
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

/// Places in [`TABLES`].
pub const COUNTERS: usize = 0;
pub const COUNTER_WINDOWS: usize = 1;
pub const REACTIONS: usize = 2;
pub const BOARDS: usize = 3;
pub const BOARD_ENTRIES: usize = 4;
pub const VERDICTS: usize = 5;
pub const DEAD_LETTERS: usize = 6;
pub const SINK_PROGRESS: usize = 7;

/// All of them.
pub static TABLES: [Table; 8] = [
    Table { name: "counters", keys: &["subject_id", "metric"], values: &[replace("value"), VERSION] },
    Table {
        name: "counter_windows",
        keys: &["subject_id", "metric", "window_ms", "window_start"],
        values: &[replace("value"), VERSION],
    },
    Table {
        name: "reactions",
        keys: &["actor_id", "metric", "subject_id"],
        values: &[
            replace("active"),
            replace("occurred_at"),
            Column { name: "created_at", update: Update::Least },
            replace("updated_at"),
            VERSION,
        ],
    },
    Table { name: "boards", keys: &["board"], values: &[replace("items"), replace("as_of"), VERSION] },
    // Not guarded: whoever writes them holds the row of their board, and has looked at its version.
    Table { name: "board_entries", keys: &["board", "position"], values: &[replace("subject_id"), replace("score")] },
    Table {
        name: "verdicts",
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
    },
    Table {
        name: "dead_letters",
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
    },
    // Not guarded: the writer has compared the positions before, and a reset or a replaced log may move them back.
    Table {
        name: "sink_progress",
        keys: &["topic", "partition"],
        values: &[
            replace("generation"),
            replace("next_offset"),
            replace("roots"),
            Column { name: "version", update: Update::Replace },
        ],
    },
];
