//! Leader hints of brokers (KIP-951) are ignored, because librdkafka 2.12 can crash on them.
//!
//! A broker that rejects a fetch may add the present leader of the partition. If it knows none, as after its own crash,
//! the leader is -1. librdkafka counts such a partition among those with a new leader but does not fill in its entry
//! (`rd_kafka_handle_Fetch_metadata_update`), and then uses the entry as an index: the process dies of a segmentation
//! fault. Without hints the client queries the metadata instead, as it does with brokers older than Kafka 3.7.
//!
//! The linker option in `build.rs` of the binary redirects librdkafka's calls to this function.

use std::ffi::{c_int, c_void};

/// `RD_KAFKA_OP_RES_HANDLED`.
const HANDLED: c_int = 1;

/// Replaces librdkafka's function that applies the hints of a response. The caller frees the hints.
// SAFETY: no other symbol has this name, and librdkafka has none that begins with `__wrap_`. The signature is that of
// the function it replaces, two pointers and an enum; neither pointer is read.
#[unsafe(no_mangle)]
extern "C" fn __wrap_rd_kafka_metadata_update_op(_client: *mut c_void, _hints: *mut c_void) -> c_int {
    HANDLED
}
