//! What every engine must do, as tests: [`log_contract!`](crate::log_contract) runs all of them against one engine.
//!
//! They are public functions, so that any engine can run them from its own tests; they panic where an engine differs.
//! Offsets are never counted on to be dense (Kafka has control records), nor rebalances to be single.

pub mod groups;
mod harness;
pub mod reading;
pub mod records;
pub mod topics;
pub mod transactions;

pub use harness::{Factory, Harness, Member, Read};

/// One `#[test]` for each behaviour; the argument is a `fn() -> Harness`. A second argument, `fn() -> bool`, returns
/// whether the engine is available.
#[macro_export]
macro_rules! log_contract {
    ($factory:path) => {
        $crate::log_contract! { $factory, || true }
    };
    ($factory:path, $present:expr) => {
        $crate::log_contract! { @tests $factory; $present;
            groups: a_single_member_gets_everything,
            groups: a_second_member_gets_half_after_it_was_given_back,
            groups: a_dropped_member_frees_its_partitions,
            groups: a_member_that_unsubscribes_gives_back_its_partitions,
            groups: offsets_of_a_former_generation_are_refused,
            groups: offsets_without_a_member_are_not_checked,
            groups: everybody_is_told_of_a_rebalance,
            groups: no_partition_ever_has_two_owners,
            reading: reading_begins_where_it_is_told_to,
            reading: assigning_again_moves_and_unassigning_stops,
            reading: outside_the_log_is_out_of_range,
            reading: deleted_records_are_gone_exactly,
            reading: partitions_take_turns,
            reading: a_poll_wakes_when_something_is_written,
            reading: a_poll_without_time_does_not_wait,
            records: records_come_back_as_they_were,
            records: records_come_in_the_order_of_writing,
            records: append_times_never_run_back,
            records: large_records_pass,
            records: much_in_one_append_stays_in_order,
            records: appends_tell_the_last_offsets,
            records: appends_of_many_threads_all_arrive,
            topics: topics_are_created_once,
            topics: topics_that_differ_are_refused,
            topics: unknown_topics_are_refused_everywhere,
            transactions: a_transaction_shows_as_a_whole,
            transactions: an_aborted_transaction_leaves_nothing,
            transactions: offsets_come_back_with_their_metadata,
            transactions: an_empty_transaction_does_nothing,
            transactions: a_takeover_fences_the_former_holder,
            transactions: producers_do_not_disturb_each_other,
        }
    };
    (@tests $factory:path; $present:expr; $($module:ident: $name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let present: fn() -> bool = $present;
                if present() {
                    $crate::log::contract::$module::$name(&$factory);
                }
            }
        )*
    };
}
