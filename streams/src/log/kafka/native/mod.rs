//! What the wrapper of librdkafka lacks, by its C interface: records in batches, headers decoded on demand, the
//! membership of a group as plain values, a producer that notices when a request is lost, and one whose delivery reports
//! come in batches. The only module of the client with `unsafe`.
//!
//! Batches: a poll by the wrapper costs 0.36-0.46 us a record, a batch 0.09-0.12 us; once hops are combined that is a
//! sixth of the whole pipeline's CPU (`examples/log_speed.rs` measures it).

mod append;
mod events;
mod leader_hints;
mod producer;
mod wakeups;

use super::super::{GroupMetadata, Header, HeaderList};
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use std::ffi::CStr;
use std::os::raw::c_char;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

pub(super) use append::{AppendProducer, AppendTopic, Report};
pub(super) use events::Served;
pub(super) use producer::NativeProducer;

/// A queue into which the partitions of one consumer are forwarded. Keeps the consumer alive.
pub(super) struct Queue<C: ConsumerContext + 'static> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; this one is used by one thread at a time (`&mut self`).
unsafe impl<C: ConsumerContext> Send for Queue<C> {}

impl<C: ConsumerContext> Queue<C> {
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Self {
        // SAFETY: the client is alive, and is kept alive by `consumer` for as long as the queue is.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).expect("librdkafka never returns a null queue");
        Self { queue, consumer }
    }

    /// The records of this partition come to this queue from now on. Called before the partition is assigned: what
    /// was fetched before stays in the consumer's own queue.
    pub fn forward(&self, topic: &CStr, partition: u32) {
        // SAFETY: client and queue are alive. The partition's queue is counted by reference: forwarding takes its own
        // reference of the target, and ours of the source is given back.
        unsafe {
            let client = self.consumer.client().native_ptr();
            let source = sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition as i32);
            if !source.is_null() {
                sys::rd_kafka_queue_forward(source, self.queue.as_ptr());
                sys::rd_kafka_queue_destroy(source);
            }
        }
    }

    /// Appends up to `most` messages to `into`. Returns when there is one or the time is over, and what is there then.
    pub fn poll(&mut self, timeout: Duration, most: usize, into: &mut Vec<Message>) {
        // A batch call waits until the batch is full; so only the first message is waited for.
        if self.take(Duration::ZERO, most, into) == 0 && !timeout.is_zero() && self.take(timeout, 1, into) > 0 {
            self.take(Duration::ZERO, most - 1, into);
        }
    }

    fn take(&mut self, timeout: Duration, most: usize, into: &mut Vec<Message>) -> usize {
        let before = into.len();
        into.reserve(most);
        let timeout_ms = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        // SAFETY: there is room for `most` pointers behind `before`; `Message` is a transparent non-null pointer, and
        // the call returns how many of them it has written. Each of them is ours to destroy.
        unsafe {
            let room = into.as_mut_ptr().add(before).cast::<*mut sys::rd_kafka_message_t>();
            let count = sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), timeout_ms, room, most);
            let count = usize::try_from(count).unwrap_or(0);
            into.set_len(before + count);
            count
        }
    }
}

impl<C: ConsumerContext> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue was made by `new` and is destroyed once; the client is still alive.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// A message of librdkafka: a record, or an error of a partition.
#[repr(transparent)]
pub(super) struct Message(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message belongs to the thread that took it from its queue, whatever the thread.
unsafe impl Send for Message {}

impl Message {
    fn message(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the message lives until it is dropped, and no thread writes to these fields.
        unsafe { self.0.as_ref() }
    }

    /// Why the partition cannot be read; None for a record.
    pub fn error(&self) -> Option<sys::rd_kafka_resp_err_t> {
        let error = self.message().err;
        (error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(error)
    }

    /// Its topic; empty where an error names none.
    pub fn topic(&self) -> &CStr {
        let topic = self.message().rkt;
        if topic.is_null() {
            return c"";
        }
        // SAFETY: the topic is kept alive by the message, and its name by the topic.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) }
    }

    pub fn partition(&self) -> i32 {
        self.message().partition
    }

    pub fn offset(&self) -> u64 {
        self.message().offset.max(0) as u64
    }

    /// None and empty differ.
    pub fn key(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.key.cast(), message.key_len)
    }

    /// None and empty differ.
    pub fn value(&self) -> Option<&[u8]> {
        let message = self.message();
        bytes(message.payload.cast(), message.len)
    }

    /// Milliseconds since 1970; the log's own time where the topic has it.
    pub fn time_ms(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` outlives the call.
        unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) }
    }
}

/// Bytes that live as long as the message from which `at` was taken.
fn bytes<'a>(at: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives null for "none", else a pointer to `len` bytes that live as long as the message; callers
    // bind the result to a borrow of it.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at, len) })
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: taken from a queue by `Queue::take` and destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// Headers are decoded on demand.
impl HeaderList for Message {
    /// The header at an index; None after the last one, and where its name is not UTF-8.
    fn header(&self, index: usize) -> Option<Header<'_>> {
        let (mut list, mut name, mut value, mut len) =
            (std::ptr::null_mut(), std::ptr::null(), std::ptr::null(), 0usize);
        // SAFETY: the first call decodes the headers into the message, which owns them from then on; only the thread
        // that owns the message calls it (`Message` is not `Sync`). All out-pointers outlive their call. What they are
        // set to lives as long as the message, which the result borrows.
        unsafe {
            let none = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut list) != none
                || sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len) != none
            {
                return None;
            }
            let name = CStr::from_ptr(name).to_str().ok()?;
            Some((name, bytes(value.cast(), len).unwrap_or_default()))
        }
    }
}

/// The current membership of a consumer; None if it has none: librdkafka clears member name or generation as soon as it
/// learns that they are invalid, and reports the loss only later.
pub(super) fn membership<C: ConsumerContext>(consumer: &BaseConsumer<C>, group: &str) -> Option<GroupMetadata> {
    // SAFETY: the client is alive; the metadata is ours, read while it lives and destroyed once.
    unsafe {
        let metadata = sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = i64::from(sys::rd_kafka_consumer_group_metadata_generation_id(metadata));
        let member = text(sys::rd_kafka_consumer_group_metadata_member_id(metadata));
        sys::rd_kafka_consumer_group_metadata_destroy(metadata);
        (generation >= 0 && !member.is_empty()).then(|| GroupMetadata { group: group.to_owned(), generation, member })
    }
}

/// # Safety
/// `text` is null or a C string that lives through the call.
// SAFETY: for the caller, as in the comment.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// An error of a transactional call.
#[derive(Debug)]
pub(super) struct NativeError {
    pub code: rdkafka::types::RDKafkaErrorCode,
    pub text: String,
    pub fatal: bool,
    pub retriable: bool,
    pub abort: bool,
}

impl NativeError {
    fn plain(text: String) -> Self {
        let code = rdkafka::types::RDKafkaErrorCode::InvalidArgument;
        Self { code, text, fatal: true, retriable: false, abort: false }
    }

    /// # Safety
    /// `error` is null or an error that is the caller's; it is destroyed.
    // SAFETY: for the caller, as in the comment.
    unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: as the caller promises; the text is copied before the error is destroyed.
        unsafe {
            let taken = Self {
                code: sys::rd_kafka_error_code(error).into(),
                text: text(sys::rd_kafka_error_string(error)),
                fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                retriable: sys::rd_kafka_error_is_retriable(error) != 0,
                abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            sys::rd_kafka_error_destroy(error);
            Err(taken)
        }
    }
}
