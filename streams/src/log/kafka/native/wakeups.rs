//! A producer's thread sleeps while a partition waits for its response, because librdkafka 2.12 spins then.
//!
//! An idempotent producer has one batch of five records or more in flight per partition. If more records for that
//! partition are due, `rd_kafka_toppar_producer_serve` sets the time to wake up to now and then sends nothing, since the
//! batch is not answered: the broker's thread polls without a pause and uses a whole core. A response wakes that thread in
//! any case, and so does a socket that takes more; the time matters only for what neither of them announces.
//!
//! The linker option in `build.rs` of the binary redirects librdkafka's calls to this function.

use std::ffi::c_void;

/// How soon a partition whose records are due is looked at again, in microseconds. librdkafka polls in milliseconds.
const AGAIN_US: i64 = 1_000;

// SAFETY: the signature is that of librdkafka's function. The linker gives it this name where it redirects calls, and
// elsewhere drops the only function that refers to it.
unsafe extern "C" {
    fn __real_rd_kafka_msgq_allow_wakeup_at(
        queue: *mut c_void,
        due: *const c_void,
        next_wakeup: *mut i64,
        now: i64,
        linger_us: i64,
        batch_records: i32,
        batch_bytes: i64,
    ) -> u8;
}

/// Whether the records of a partition are due. Unlike the function that it replaces, it does not ask to be called again at
/// once if they are.
///
/// # Safety
/// Called by librdkafka alone, with the arguments of the function that it replaces.
// SAFETY: no other symbol has this name, and librdkafka has none that begins with `__wrap_`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafka_msgq_allow_wakeup_at(
    queue: *mut c_void,
    due: *const c_void,
    next_wakeup: *mut i64,
    now: i64,
    linger_us: i64,
    batch_records: i32,
    batch_bytes: i64,
) -> u8 {
    // SAFETY: the arguments are passed on as they came. The time is null or the caller's, which waits for the result.
    unsafe {
        let others = next_wakeup.as_ref().copied();
        let are_due =
            __real_rd_kafka_msgq_allow_wakeup_at(queue, due, next_wakeup, now, linger_us, batch_records, batch_bytes);
        if let (1.., Some(others), Some(next_wakeup)) = (are_due, others, next_wakeup.as_mut()) {
            *next_wakeup = others.min((*next_wakeup).max(now + AGAIN_US));
        }
        are_due
    }
}
