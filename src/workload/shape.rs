//! How a workload is made up.

/// Sizes and shares. Shares are parts of 10,000 lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// People: `u1`, `u2`, …
    pub actors: u32,
    /// Subjects: `article:1` is the hot one, the others follow by Zipf's law.
    pub subjects: u32,
    /// The share of the hot subject.
    pub hot: u32,
    /// Busy machines: `bot1`, `bot2`, …
    pub bots: u32,
    /// Their share together.
    pub bot_events: u32,
    /// Lines that repeat an earlier one byte by byte.
    pub repeats: u32,
    /// Lines that are no valid event.
    pub garbage: u32,
    /// Times lie up to so far from their place in the order, either way.
    pub disorder_ms: i64,
    /// Events that lie further back, up to [`Shape::back_ms`].
    pub back: u32,
    /// How far.
    pub back_ms: i64,
    /// Events of clients whose clocks are behind, by up to [`Shape::skew_ms`].
    pub behind: u32,
    /// Events of clients whose clocks are ahead, by up to [`Shape::skew_ms`].
    pub ahead: u32,
    /// How wrong clients' clocks are.
    pub skew_ms: i64,
    /// Events without a time of their own.
    pub timeless: u32,
    /// Views and reads with numbers and texts as properties.
    pub values: u32,
    /// Events that come too late to count.
    pub late: u32,
    /// From here on an event is too late; the topology's `late_after`.
    pub late_after_ms: i64,
}

impl Shape {
    /// The workload of the large runs.
    pub fn full() -> Self {
        Self {
            actors: 200_000,
            subjects: 20_000,
            hot: 1_000,
            bots: 20,
            bot_events: 500,
            repeats: 150,
            garbage: 20,
            disorder_ms: 2_000,
            back: 50,
            back_ms: 600_000,
            behind: 0,
            ahead: 0,
            skew_ms: 0,
            timeless: 0,
            values: 0,
            late: 10,
            late_after_ms: 86_400_000,
        }
    }

    /// What runs send that are compared with a naive model: clients have wrong clocks, and events have values to aggregate.
    pub fn compared() -> Self {
        Self { behind: 800, ahead: 400, skew_ms: 30_000, timeless: 300, values: 500, ..Self::full() }
    }

    /// A small town: what the demo sends.
    pub fn demo() -> Self {
        Self { actors: 2_000, subjects: 200, bots: 2, ..Self::full() }
    }
}
