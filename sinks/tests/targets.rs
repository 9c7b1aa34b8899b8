//! What every target promises: one contract, a module for each target.

#[path = "targets/contract.rs"]
mod contract;
#[path = "targets/databases.rs"]
mod databases;
mod fixture;
#[path = "targets/values.rs"]
mod values;

use fixture::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::OutputType;
use tally_sinks::{Batch, Database, Move, StoredPosition, Target, TargetError};
use tally_streams::log::TopicPartition;

/// One `#[test]` for each behaviour; the argument makes new, empty places, none where a service is missing.
macro_rules! target_contract {
    ($places:expr) => {
        target_contract! { @tests $places;
            contract: an_empty_target_has_no_positions,
            contract: rows_are_written_with_the_position_and_the_newest_of_a_key_wins,
            contract: a_batch_that_comes_again_is_refused,
            contract: a_replay_at_the_right_position_changes_no_row,
            contract: a_smaller_version_is_passed_over_and_an_equal_one_is_taken,
            contract: a_zombie_writes_nothing,
            contract: one_position_of_several_that_is_wrong_is_enough,
            contract: marks_move_on_at_an_equal_position_and_fence_who_has_not_seen_it,
            contract: a_position_may_be_moved_back_on_purpose,
            contract: positions_of_other_topics_are_not_told,
            contract: records_of_every_type_are_taken,
            contract: it_forgets_everything_or_nothing,
            values: values_of_every_type_arrive_as_they_are,
        }
    };
    (@tests $places:expr; $($behaviours:ident: $name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                for place in $places {
                    super::$behaviours::$name(&place);
                }
            }
        )*
    };
}

/// The same, with tests for databases only.
macro_rules! database_contract {
    ($places:expr) => {
        target_contract! { $places }
        target_contract! { @tests $places;
            databases: it_writes_only_what_changed_and_everything_when_it_refills,
            databases: a_reaction_keeps_when_it_was_first_seen,
            databases: every_table_takes_its_rows_in_chunks_of_every_size,
            databases: old_rows_leave_and_the_rest_stays,
            databases: the_last_verdict_on_an_event_holds_and_what_is_released_has_none,
            databases: batches_of_every_size_arrive_whole,
            databases: ids_are_compared_byte_by_byte,
            databases: a_poisonous_verdict_is_stored_whatever_its_ids_are,
            values: windows_of_every_kind_have_rows_of_their_own,
            values: windows_with_a_time_of_their_own_leave_before_the_others,
            values: a_deleted_window_stays_deleted_until_it_expires,
            values: rows_of_older_releases_stay,
        }
    };
}

mod sqlite {
    use super::DatabasePlace;

    database_contract!([DatabasePlace::new()]);
}

/// MariaDB and MySQL.
mod servers {
    use super::{DatabasePlace, server_databases};

    database_contract!(server_databases().into_iter().map(DatabasePlace::Server));
}

mod memory {
    use super::CachePlace;

    target_contract!([CachePlace::new()]);
}

/// One node, and a Cluster.
mod redis {
    use super::redis_places;

    target_contract!(redis_places());
}

fn totals(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
    pairs.iter().map(|(metric, value)| ((*metric).to_owned(), *value)).collect()
}

fn position(target: &mut dyn Target) -> Option<StoredPosition> {
    target.positions(&[Arc::from("counters")]).unwrap().pop()
}

/// Totals, the names of those that changed, and the version.
type Written<'a> = (&'a [(&'a str, i64)], &'a [&'a str], i64);

fn batch(records: &[Written<'_>], step: Move) -> Batch {
    let mut batch = Batch::default();
    for (totals, changed, version) in records {
        add_counters(&mut batch, &counters("article:7", totals, changed, *version), false);
    }
    batch.positions.push(step);
    batch
}

#[test]
fn a_database_that_is_locked_is_an_error_and_writes_nothing() {
    use sqlx::{Connection, SqliteConnection};
    let place = DatabasePlace::new();
    let mut target = place.target();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut other = runtime.block_on(SqliteConnection::connect(&place.url())).unwrap();
    runtime.block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut other)).unwrap();
    let write = batch(&[(&[("likes", 1)], &["likes"], 1)], step(None, 1, &[], 1));
    assert!(matches!(target.write(&write), Err(TargetError::Unavailable(_))));
    runtime.block_on(sqlx::query("ROLLBACK").execute(&mut other)).unwrap();
    assert_eq!(position(&mut *target), None);
    target.write(&write).unwrap();
    assert_eq!(place.totals("article:7"), totals(&[("likes", 1)]));
}

#[test]
fn a_database_that_cannot_be_opened_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().display());
    let error = Database::open(&url, Default::default()).err().unwrap().to_string();
    assert!(error.contains("it is a directory: name a file in it"), "{error}");
    for (url, part) in [
        ("mysql://u:secret@127.0.0.1", "it names no database"),
        ("postgres://u:secret@h/db", "use `sqlite:FILE` or `mysql://"),
        ("mysql://u:secret@h:x/db", "invalid port number"),
    ] {
        let error = Database::open(url, Default::default()).err().unwrap().to_string();
        assert!(error.contains("://u:…@") && error.contains(part) && !error.contains("secret"), "{error}");
    }
}
