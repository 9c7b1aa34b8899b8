//! Limits and defaults that documents name are those of the code: a constant that changes fails here, and so does a
//! phrase that is no longer in its document.

use crate::sources;
use std::collections::BTreeMap;

/// A phrase of a document, the folder whose code has the number, and that code, which occurs there once.
type Number = (&'static str, &'static str, &'static str);

/// By document.
const NUMBERS: &[(&str, &[Number])] = &[
    (
        "ARCHITECTURE.md",
        &[
            ("up to 0.5 s", "api", "RECEIPT_WAIT: Duration = Duration::from_millis(500);"),
            ("pauses (20 ms, doubling to 5 s)", "streams", "PAUSE_FIRST_MS: i64 = 20;"),
            ("pauses (20 ms, doubling to 5 s)", "streams", "PAUSE_LAST_MS: i64 = 5_000;"),
            (
                "`commit_interval` (50 ms by default)",
                "streams",
                "COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(50);",
            ),
            ("exceeds 32 MiB", "streams", "transaction_bytes_max: 32 << 20,"),
            ("beyond 16 MiB and twice the state", "streams", "snapshot_tail_bytes: 16 << 20,"),
            ("after 8 MiB of changelog", "streams", "checkpoint_bytes: 8 << 20,"),
            ("every 10 s if anything changed", "streams", "checkpoint_age: Duration::from_secs(10),"),
            ("within 200 ms after positions moved", "streams", "PROGRESS_MOVED_MS: i64 = 200;"),
            ("every 5 s if only the clock did", "streams", "PROGRESS_ALWAYS_MS: i64 = 5_000;"),
            ("more than 60 s behind", "model", "TRUST_MS: i64 = 60_000;"),
        ],
    ),
    (
        "docs/grpc.md",
        &[
            ("within 5 s after its key or token", "http", "POLLED: Duration = Duration::from_secs(5);"),
            ("must arrive within 10 s", "http", "MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);"),
            ("has up to 10,000 calls", "ingest", "STREAMS_MAX: usize = 10_000;"),
            ("the error, up to 4 KiB", "http", "DETAILS_BYTES_MAX: usize = 4 << 10;"),
            ("up to 100 calls at a time", "http", "STREAMS_MAX: u32 = 100;"),
            ("pings it every 20 s", "http", "write_timeout: Duration::from_secs(20),"),
            ("comes within 10 s", "http", "header_timeout: Duration::from_secs(10),"),
        ],
    ),
    (
        "docs/http.md",
        &[
            ("1-64 of `A-Za-z0-9._:-`", "model", "EVENT_ID_BYTES_MAX: usize = 64;"),
            ("1-120 bytes without", "model", "ACTOR_ID_BYTES_MAX: usize = 120;"),
            ("`kind:id`, at most 128 bytes", "model", "SUBJECT_ID_BYTES_MAX: usize = 128;"),
            ("up to 31 of `a-z0-9_-`", "model", "NAME_BYTES_MAX: usize = 32;"),
            ("at most 5 minutes ahead", "model", "MAX_AHEAD_MS: i64 = 5 * 60 * 1000;"),
            ("`user_agent` has up to 1,024 bytes", "model", "USER_AGENT_BYTES_MAX: usize = 1 << 10;"),
            ("0 to 86,400,000", "model", "DURATION_MS_MAX: i64 = 86_400_000;"),
            ("up to 16 strings, numbers and booleans", "model", "PROPERTIES_MAX: usize = 16;"),
            ("booleans, 2,048 bytes", "model", "PROPERTIES_BYTES_MAX: usize = 2 << 10;"),
            ("up to 1,000 events", "ingest", "EVENTS_MAX: usize = 1_000;"),
            ("1 MiB (1,048,576 bytes)", "ingest", "pub const BODY_BYTES_MAX: usize = 1 << 20;"),
            ("at most 8 MiB (RFC 9659)", "http", "ZSTD_WINDOW_LOG_MAX: u32 = 23;"),
            ("600 toggle events", ".", "LIMIT_ACTOR: u32 = 600;"),
            ("addresses of a /64 count as one", "access", "IPV6_PREFIX_BITS: u8 = 64;"),
            ("less than 24 h ago", "model", "LIFETIME_MS: i64 = 86_400_000;"),
            ("`Retry-After` (30 s)", "ingest", "Self::LogFull => Some(30),"),
            ("`wait_ms` (default 1000", "api", "WAIT_MS_DEFAULT: u64 = 1_000;"),
            ("up to 10000)", "api", "WAIT_MS_MAX: u64 = 10_000;"),
            ("Null after 24 h", "api", "REMEMBERED_MS: i64 = 24 * 60 * 60 * 1_000;"),
            ("within 0.5 s", "api", "RECEIPT_WAIT: Duration = Duration::from_millis(500);"),
            ("`limit` (1 to 100", "api", "LIMIT_MAX: usize = 100;"),
            ("default 50)", "api", "LIMIT_DEFAULT: usize = 50;"),
            ("the maximum is 1000", "api", "WINDOWS_MAX: i64 = 1_000;"),
            ("last 30 windows", "api", "WINDOWS_DEFAULT: i64 = 30;"),
            (
                "Parameters: `subject_id`, 1 to 100 times; `actor_id`",
                "api",
                "/// Subjects in one request. const SUBJECTS_MAX: usize = 100;",
            ),
            (
                "Parameters: `subject_id`, 1 to 100 times, or one `board`",
                "api",
                "/// Subjects of one stream. const SUBJECTS_MAX: usize = 100;",
            ),
            ("cached for 0.1 s", ".", "BOARD_PAGES_FOR: Duration = Duration::from_millis(100);"),
            ("100 ms per subject", "api", "const ROUND: Duration = Duration::from_millis(100);"),
            ("| 250 ms |", "api", "BOARD_ROUND: Duration = Duration::from_millis(250);"),
            ("nothing for 20 s", "http", "write_timeout: Duration::from_secs(20),"),
            ("(`:`) every 15 s", "api", "HEARTBEAT_SECONDS: u64 = 15;"),
            ("within 20 s after its key", "access", "LEAVE_MS: i64 = 5_000;"),
            (
                "10,000 streams (`--live-streams`)",
                ".",
                "\"TALLY_LIVE_STREAMS\", value_name = \"N\", default_value_t = 10_000",
            ),
            ("`Retry-After: 5`", "api", "RETRY_AFTER_S: u32 = 5;"),
            ("`max-age=1, stale-while-revalidate=5`", "api", "\"max-age=1, stale-while-revalidate=5\""),
            ("a sample every 10 s", "api", "SAMPLE_EVERY: Duration = Duration::from_secs(10);"),
            ("The last hour", "api", "SAMPLES_MAX: usize = 360;"),
            ("at most a second old", "api", "LOOK_EVERY: Duration = Duration::from_secs(1);"),
            ("(1 to 65,536", "api", "PAYLOAD_BYTES_MAX: usize = 64 << 10;"),
            ("default 2,048)", "api", "PAYLOAD_BYTES_DEFAULT: usize = 2 << 10;"),
            ("cut at 256 bytes", "api", "KEY_BYTES_MAX: usize = 256;"),
            ("newest 10,000 dead letters", "api", "GROUPED_MAX: usize = 10_000;"),
            ("at most 100 groups", "api", "REASONS_MAX: usize = 100;"),
            ("(1-64 of `A-Za-z0-9._-`)", "http", "const BYTES_MAX: usize = 64;"),
            ("| 4,096; 128 MiB", "ingest", "requests_max: 4096,"),
            ("| 4,096; 128 MiB", "ingest", "bytes_max: 128 << 20,"),
            ("| 64 MiB. Above: 503", "streams", "const QUEUE_BYTES_MAX: usize = 64 << 20;"),
            ("| 64 MiB. Above: 503", "streams", "queue_bytes_max: 64 << 20,"),
            ("| 1,024. Above: 503", "api", "WAITING_MAX: usize = 1_024;"),
            ("3 s, then 503 `outcome-unknown`", "ingest", "append_timeout: Duration::from_secs(3),"),
            ("| 10 s each", "http", "header_timeout: Duration::from_secs(10),"),
            ("| 10 s each", "http", "body_timeout: Duration::from_secs(10),"),
            ("at most 64 KiB and 100 headers", "http", "header_bytes_max: 64 << 10,"),
            ("64 KiB and 100 headers", "http", "HEADERS_MAX: usize = 100;"),
            ("up to 16 MiB", "http", "DRAIN_BYTES_MAX: usize = 16 << 20;"),
            ("2 s after the response", "http", "LINGER: Duration = Duration::from_secs(2);"),
            ("15 s, then 503 `request-timeout`", ".", "REQUEST_TIMEOUT: Duration = Duration::from_secs(15);"),
            ("10,000 plus the limit of live streams", "http", "connections_max: 10_000,"),
        ],
    ),
    (
        "docs/web.md",
        &[
            ("polls every 2 s", "web", "POLL_MS = 2_000"),
            ("retries the stream every minute", "web", "STREAM_AGAIN_MS = 60_000"),
            ("`article:1` to `article:200`", "web", "ARTICLES_MAX = 200"),
            ("after 5 s of visibility", "web", "READ_MS = 5_000"),
            ("2 s behind", "web", "BEHIND_SECONDS_MIN = 2"),
            ("two polls, 2 s apart", "web", "LOOK_MS = 2_000"),
            ("per minute over five minutes", "web", "LATELY_MS = 5 * 60_000"),
            ("export up to 10,000", "web", "EXPORT_MAX = 10_000"),
            ("payloads up to 64 KiB", "web", "PAYLOAD_BYTES_MAX = 65_536"),
            ("Events within 20 ms", "web", "lingerMs: 20,"),
            ("in one request, at most 100", "web", "batchMax: 100,"),
            ("more than 30 s", "web", "SKEW_MS_MIN = 30_000"),
            ("after 0.5 to 1 s", "web", "{ firstMs: 1_000, maxMs: 60_000 }"),
            ("`unknown` after 8 s", "web", "[0, 150, 400, 1_000, 2_000, 4_000]"),
            ("Up to 1,000 unsent events", "web", "max = 1_000"),
        ],
    ),
    (
        "docs/metrics.md",
        &[
            ("retried after 100 ms to 10 s", "sinks", "FIRST_MS: i64 = 100;"),
            ("retried after 100 ms to 10 s", "sinks", "LONGEST_MS: i64 = 10_000;"),
            ("after 5 failures in a row", "sinks", "TRIP: u32 = 5;"),
            ("measured every 2 s", "sinks", "LAG_EVERY_MS: i64 = 2_000;"),
            ("once a minute, up to 1,000 per table", "sinks", "EXPIRE_EVERY_MS: i64 = 60_000;"),
            ("up to 1,000 per table", "sinks", "SLICE_ROWS: i64 = 1_000;"),
            ("every 0.5 s", "sinks", "EXPIRE_AGAIN_MS: i64 = 500;"),
            ("stays 1 s behind the wall clock", "streams", "IDLE_MARGIN_DEFAULT: Duration = Duration::from_secs(1);"),
            ("published every 5 s", "streams", "PROGRESS_ALWAYS_MS: i64 = 5_000;"),
            ("cached for 0.1 s", ".", "BOARD_PAGES_FOR: Duration = Duration::from_millis(100);"),
            ("counted every second", "api", "MEASURE: Duration = Duration::from_secs(1);"),
            ("up to 100,000", "api", "COUNTED_MAX: usize = 100_000;"),
            ("open for 30 s or more", "streams", "transaction_timeout: Duration::from_secs(10),"),
            ("open for 30 s or more", ".", "MARGIN: Duration = Duration::from_secs(20);"),
            ("at most one a minute", "streams", "const EVERY: Duration = Duration::from_secs(60);"),
        ],
    ),
    (
        "docs/wire.md",
        &[
            ("`generation << 48 | commit number`", "model", "COMMIT_BITS: u32 = 48;"),
            ("within 200 ms", "streams", "PROGRESS_MOVED_MS: i64 = 200;"),
            ("every 5 s", "streams", "PROGRESS_ALWAYS_MS: i64 = 5_000;"),
            ("more than 60 s behind", "model", "TRUST_MS: i64 = 60_000;"),
            ("(1 to 3, set by the control record)", "streams", "WIRE_VERSIONS: RangeInclusive<u8> = 1..=3;"),
            ("about 512 KiB", "streams", "PART_BYTES_MAX: usize = 512 << 10;"),
            ("at most 16,384 hashes", "model", "HASHES_PER_ENTRY_MAX: usize = 16 << 10;"),
            ("split at 262,128 bytes", "streams", "BATCH_BYTES_MAX: usize = 64 * 4096 - 16;"),
            ("up to 256; 1: 16,384 ranks", "model", "UNIQUES_EXACT_MAX: i64 = 256;"),
            ("1: 16,384 ranks", "processors", "const P: u32 = 14;"),
            ("up to 16 entries and 2,048 bytes", "model", "PROPERTIES_MAX: usize = 16;"),
            ("up to 16 entries and 2,048 bytes", "model", "PROPERTIES_BYTES_MAX: usize = 2 << 10;"),
            ("optional, up to 1,024 bytes", "model", "USER_AGENT_BYTES_MAX: usize = 1 << 10;"),
        ],
    ),
    (
        "docs/operations.md",
        &[
            ("blocks of up to 64 KiB", "streams", "BLOCK_BYTES: usize = 16 * 4096 - 16;"),
            ("Batches older than 10 s", "streams", "settle_ms: 10_000,"),
            ("slices of about 512 KiB", "streams", "slice_bytes: 512 << 10,"),
            ("a record older than 3 minutes goes", "streams", "margin_ms: 180_000,"),
            ("when it has gained 64 KiB", "streams", "dirty_bytes_min: 64 << 10,"),
            ("more than 16 MiB, and twice", "streams", "snapshot_tail_bytes: 16 << 20,"),
            ("64 KiB of its state", "streams", "snapshot_step_bytes: 64 << 10,"),
            ("5 s and 1 MiB", "access", "const TIMEOUT: Duration = Duration::from_secs(5);"),
            ("5 s and 1 MiB", "access", "const BYTES_MAX: usize = 1 << 20;"),
            ("after 1 s, doubling up to 60 s", "access", "RETRY_MIN: Duration = Duration::from_secs(1);"),
            ("doubling up to 60 s", "access", "RETRY_MAX: Duration = Duration::from_secs(60);"),
            ("at most every 10 s", "access", "KID_PAUSE: Duration = Duration::from_secs(10);"),
            ("about 130,000", "access", "const GROUPS: usize = 16_384;"),
            ("about 130,000", "access", "const WAYS: usize = 8;"),
            ("requests in flight get 4 s", ".", "SHUTDOWN_DEADLINE: Duration = Duration::from_secs(4);"),
            ("abandons uncommitted work after 7 s", ".", "STOP_DEADLINE: Duration = Duration::from_secs(7);"),
            ("8 MiB or 10 s per task", "streams", "checkpoint_bytes: 8 << 20,"),
            ("8 MiB or 10 s per task", "streams", "checkpoint_age: Duration::from_secs(10),"),
            ("first 64 MiB of leaves", "streams", "LEAVES_MAX: u64 = 16_384;"),
            ("(2 minutes)", "streams", "jump: Duration::from_secs(120)"),
            ("(10 minutes)", "streams", "settle: Duration::from_secs(600)"),
            ("The log keeps 64 MiB of the disk in reserve", "streams", "disk_reserve_bytes: 64 << 20,"),
            ("retry 20 ms to 5 s later", "streams", "PAUSE_FIRST_MS: i64 = 20;"),
            ("retry 20 ms to 5 s later", "streams", "PAUSE_LAST_MS: i64 = 5_000;"),
            ("4 s per statement", "sinks", "pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);"),
            ("1 s per read of the API", "api", "const PATIENCE: Duration = Duration::from_secs(1);"),
            ("100 ms to 10 s", "sinks", "FIRST_MS: i64 = 100;"),
            ("100 ms to 10 s", "sinks", "LONGEST_MS: i64 = 10_000;"),
            ("every 5 s", ".", "const LOOK_EVERY: Duration = Duration::from_secs(5);"),
            ("every 5 minutes", ".", "const REPEAT: Duration = Duration::from_secs(300);"),
            ("up to 256 MiB", "cache", "Self { size_bytes_max: 256 << 20 }"),
            ("8 MiB filter", "cache", "const WORDS: usize = 1 << 20;"),
            ("up to 64 MiB of requested subjects", ".", "size_bytes_max: 64 << 20"),
            ("within 6 s", "streams", "session_timeout: Duration::from_secs(6),"),
            ("Every 2 s tally checks", ".", "const WATCH: Duration = Duration::from_secs(2);"),
            ("not sent for 2 s", ".", "TAKEOVER_AFTER: Duration = Duration::from_secs(2);"),
            ("at most 64 MiB", "http", "SIZE_BYTES_MAX: u64 = 64 << 20;"),
        ],
    ),
    (
        "docs/topology.md",
        &[
            ("| `50ms` | 1ms to 10s |", "streams", "COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(50);"),
            ("| 1ms to 10s |", "streams", "COMMIT_INTERVAL_MIN: Duration = Duration::from_millis(1);"),
            ("| 1ms to 10s |", "streams", "COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(10);"),
            ("| `24h` | at least 1m |", "streams", "LATE_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);"),
            ("| `24h` | at least 1m |", "streams", "LATE_AFTER_MIN: Duration = Duration::from_secs(60);"),
            ("| `1s` | up to 1h |", "streams", "IDLE_MARGIN_DEFAULT: Duration = Duration::from_secs(1);"),
            ("| `1s` | up to 1h |", "streams", "IDLE_MARGIN_MAX: Duration = Duration::from_secs(60 * 60);"),
            ("up to 256 bytes", "streams", "const NAME_BYTES_MAX: usize = 256;"),
            ("1m to 31d", "processors", "MINUTES_MAX: i64 = 31 * 1_440;"),
            ("up to 256 actors, then 16 KiB", "model", "UNIQUES_EXACT_MAX: i64 = 256;"),
            ("| `10ms` | 0s to 1m |", "streams", "LINGER_DEFAULT: Duration = Duration::from_millis(10);"),
            ("| `10ms` | 0s to 1m |", "streams", "LINGER_MAX: Duration = Duration::from_secs(60);"),
        ],
    ),
    ("docs/kafka.md", &[("more than 5 minutes ahead", "model", "MAX_AHEAD_MS: i64 = 5 * 60 * 1000;")]),
];

/// Text with single spaces, however it is broken into lines.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The code of a folder, without its tests.
fn code_of(folder: &str) -> String {
    let files = if folder == "web" { sources::web() } else { sources::code(folder) };
    files.iter().map(|(_, text)| in_one_line(text) + " ").collect()
}

#[test]
fn numbers_in_documents_are_those_of_the_code() {
    let mut folders: BTreeMap<&str, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, numbers) in NUMBERS {
        let document = in_one_line(&sources::document(name));
        for (phrase, folder, code) in *numbers {
            if !document.contains(phrase) {
                wrong.push(format!("{name} does not say: {phrase}"));
            }
            let found = folders.entry(folder).or_insert_with(|| code_of(folder)).matches(code).count();
            if found != 1 {
                wrong.push(format!("{name} says: {phrase}\n    {folder}/src has {found} times: {code}"));
            }
        }
    }
    let hint = "after a change of a limit or default, correct the document and the table in this test";
    assert!(wrong.is_empty(), "{hint}\n  {}", wrong.join("\n  "));
}
