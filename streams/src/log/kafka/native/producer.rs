//! A transactional producer that notices when the outcome of a request is in doubt.
//!
//! librdkafka repeats a request that has timed out or whose connection was lost, and may finally return `Ok`. The lost
//! request may still reach the broker, and librdkafka 2.12 lacks the second version of the transaction protocol
//! (KIP-890), in which each transaction has its own epoch: a request of the last transaction could then act on the next
//! one. An interceptor detects lost requests; librdkafka's own errors arrive late, and repetitions within half a minute
//! not at all.

use super::super::super::{GroupMetadata, ProducerRecord};
use super::super::context::Quiet;
use super::{NativeError, events};
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaType;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest wait for an event; also how long a producer that is dropped may take to notice.
const SERVE: Duration = Duration::from_millis(100);
/// The request that ends a transaction.
const END_TXN: i16 = 26;
/// Requests that act on a transaction when they arrive late: Produce, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn,
/// TxnOffsetCommit. A late InitProducerId is not among them: it can only fence, which every call reports.
const OF_TRANSACTIONS: [i16; 5] = [0, 24, 25, END_TXN, 28];

/// See the module.
pub(in crate::log::kafka) struct NativeProducer {
    // Dropped first: it reads from the client until it is stopped.
    serving: Serving,
    client: Arc<Client<Quiet>>,
    // Dropped last: the client writes to them until it is destroyed.
    notes: Arc<Notes>,
}

/// What happened to the requests and records of a producer.
#[derive(Default)]
struct Notes {
    /// A request that acts on a transaction has timed out, or its connection was lost.
    lost: AtomicBool,
    /// Such a request was one that ends a transaction.
    lost_end: AtomicBool,
    /// The first record that could not be delivered.
    failed: Mutex<Option<(Code, String)>>,
}

/// The thread that takes events from the client.
struct Serving {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends by itself; if it panicked, nothing is left to be done.
            let _ = thread.join();
        }
    }
}

impl NativeProducer {
    /// Starts a client, which does not connect yet.
    pub fn start(config: &ClientConfig) -> Result<Self, KafkaError> {
        let notes = Arc::new(Notes::default());
        let native = config.create_native_config()?;
        let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        // SAFETY: the configuration is alive. `notes` outlives the client, which is the only one to call `on_new`.
        unsafe {
            sys::rd_kafka_conf_set_events(native.ptr(), events);
            let opaque = Arc::as_ptr(&notes).cast_mut().cast::<c_void>();
            let added = sys::rd_kafka_conf_interceptor_add_on_new(native.ptr(), NAME.as_ptr(), Some(on_new), opaque);
            if added != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(KafkaError::ClientCreation("no interceptor can be added".to_owned()));
            }
        }
        let client = Arc::new(Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, Quiet::default())?);
        let stop = Arc::new(AtomicBool::new(false));
        let serve = {
            let (client, notes, stop) = (client.clone(), notes.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    serve_event(&client, &notes);
                }
            }
        };
        let thread = std::thread::Builder::new().name("producer".to_owned()).spawn(serve);
        let thread = Some(thread.map_err(|error| KafkaError::ClientCreation(error.to_string()))?);
        Ok(Self { serving: Serving { stop, thread }, client, notes })
    }

    /// Whether a request that acts on a transaction was lost, so that it may arrive at any time from now on. This is
    /// permanent: the next transaction needs a new producer with a new epoch.
    pub fn has_lost(&self) -> bool {
        self.notes.lost.load(Ordering::SeqCst)
    }

    /// Whether that was a request to end the transaction.
    pub fn has_lost_end(&self) -> bool {
        self.notes.lost_end.load(Ordering::SeqCst)
    }

    /// Takes the first failed delivery since the last call.
    pub fn take_failed(&self) -> Option<(Code, String)> {
        self.notes.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The fatal error of the client, if any.
    pub fn fatal_error(&self) -> Option<Code> {
        self.client.fatal_error().map(|(code, _)| code)
    }

    /// Records that are not acknowledged yet, and events that are not taken yet.
    pub fn in_flight_count(&self) -> usize {
        // SAFETY: the client is alive.
        usize::try_from(unsafe { sys::rd_kafka_outq_len(self.client.native_ptr()) }).unwrap_or(0)
    }

    /// Sends waiting records without waiting for fuller batches, until none is in flight; false if that takes longer.
    pub fn flush(&self, timeout: Duration) -> bool {
        // SAFETY: the client is alive, and its delivery reports are events, so that this call only waits.
        let error = unsafe { sys::rd_kafka_flush(self.client.native_ptr(), ms(timeout)) };
        error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Hands a record to the client, which copies it.
    pub fn send(&self, record: &ProducerRecord<'_>) -> Result<(), NativeError> {
        use sys::rd_kafka_vtype_t as Kind;
        let unusable = |_| NativeError::plain(format!("a name of `{}` has a NUL in it", record.topic));
        let topic = CString::new(record.topic).map_err(unusable)?;
        let names = record.headers.iter().map(|(name, _)| CString::new(*name)).collect::<Result<Vec<_>, _>>();
        let names = names.map_err(unusable)?;
        let field = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        let bytes = |bytes: Option<&[u8]>| {
            // None and empty differ: an empty slice has an address as well.
            let (ptr, size) = bytes.map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
            let ptr = ptr.cast_mut().cast::<c_void>();
            Value { mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } }
        };
        let mut fields = vec![
            field(Kind::RD_KAFKA_VTYPE_TOPIC, Value { cstr: topic.as_ptr() }),
            field(Kind::RD_KAFKA_VTYPE_PARTITION, Value { i32_: record.partition as i32 }),
            field(Kind::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY }),
            field(Kind::RD_KAFKA_VTYPE_KEY, bytes(record.key)),
            field(Kind::RD_KAFKA_VTYPE_VALUE, bytes(record.value)),
        ];
        for (name, (_, value)) in names.iter().zip(record.headers) {
            let (val, size) = (value.as_ptr().cast::<c_void>(), value.len() as isize);
            let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 { name: name.as_ptr(), val, size };
            fields.push(field(Kind::RD_KAFKA_VTYPE_HEADER, Value { header }));
        }
        // SAFETY: the client is alive; each field has the member of its kind set, and all that they point to outlives
        // the call, which copies it.
        unsafe { NativeError::take(sys::rd_kafka_produceva(self.client.native_ptr(), fields.as_ptr(), fields.len())) }
    }

    /// Takes the transactional id over.
    pub fn init_transactions(&self, timeout: Duration) -> Result<(), NativeError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe { NativeError::take(sys::rd_kafka_init_transactions(self.client.native_ptr(), ms(timeout))) }
    }

    /// Begins a transaction, without a request to the broker.
    pub fn begin_transaction(&self) -> Result<(), NativeError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe { NativeError::take(sys::rd_kafka_begin_transaction(self.client.native_ptr())) }
    }

    /// Puts offsets into the transaction under a membership of plain values.
    pub fn send_offsets(
        &self,
        offsets: &rdkafka::TopicPartitionList,
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), NativeError> {
        let unusable = |_| NativeError::plain(format!("group `{}` or its member has a NUL in its name", group.group));
        let name = CString::new(group.group.as_str()).map_err(unusable)?;
        let member = CString::new(group.member.as_str()).map_err(unusable)?;
        // SAFETY: the client is alive; names and offsets outlive the calls; metadata and error are ours and are
        // destroyed once.
        unsafe {
            let metadata = match group.member.is_empty() {
                true => sys::rd_kafka_consumer_group_metadata_new(name.as_ptr()),
                false => sys::rd_kafka_consumer_group_metadata_new_with_genid(
                    name.as_ptr(),
                    group.generation as i32,
                    member.as_ptr(),
                    std::ptr::null(),
                ),
            };
            let client = self.client.native_ptr();
            let error = sys::rd_kafka_send_offsets_to_transaction(client, offsets.ptr(), metadata, ms(timeout));
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            NativeError::take(error)
        }
    }

    /// Commits the transaction. Call it when nothing is in flight.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<(), NativeError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe { NativeError::take(sys::rd_kafka_commit_transaction(self.client.native_ptr(), ms(timeout))) }
    }

    /// Aborts the transaction.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<(), NativeError> {
        // SAFETY: the client is alive; the error is ours.
        unsafe { NativeError::take(sys::rd_kafka_abort_transaction(self.client.native_ptr(), ms(timeout))) }
    }
}

impl Drop for NativeProducer {
    fn drop(&mut self) {
        // Requests in flight must not delay the end of the client.
        let everything = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_purge(self.client.native_ptr(), everything) };
        self.serving.stop.store(true, Ordering::Relaxed);
    }
}

type Value = sys::rd_kafka_vu_s__bindgen_ty_1;

/// The name of the interceptors.
const NAME: &std::ffi::CStr = c"tally";

fn ms(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// Waits for an event and takes it.
fn serve_event(client: &Client<Quiet>, notes: &Notes) {
    events::serve(client, SERVE, |event| {
        // SAFETY: the event is alive, and its messages as long as it is.
        while let Some(report) = unsafe { sys::rd_kafka_event_message_next(event).as_ref() } {
            if report.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let code = Code::from(report.err);
                let failure = (code, code.to_string());
                notes.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
            }
        }
    });
}

/// # Safety
/// Called by librdkafka alone, with the client that is being made.
// SAFETY: for librdkafka, as in the comment.
unsafe extern "C" fn on_new(
    client: *mut sys::rd_kafka_t,
    _config: *const sys::rd_kafka_conf_t,
    notes: *mut c_void,
    _error: *mut c_char,
    _size: usize,
) -> sys::rd_kafka_resp_err_t {
    // SAFETY: the client is not initialised yet, which is when this may be called.
    unsafe { sys::rd_kafka_interceptor_add_on_response_received(client, NAME.as_ptr(), Some(on_response), notes) }
}

/// Called on the broker's thread with every answer, and in place of one for every request that has timed out or whose
/// connection was lost, before any other callback.
///
/// # Safety
/// Called by librdkafka alone, with what was given to `on_new`.
// SAFETY: for librdkafka, as in the comment.
unsafe extern "C" fn on_response(
    _client: *mut sys::rd_kafka_t,
    _socket: c_int,
    _broker: *const c_char,
    _broker_id: i32,
    request: i16,
    _version: i16,
    _correlation: i32,
    _size: usize,
    _rtt: i64,
    error: sys::rd_kafka_resp_err_t,
    notes: *mut c_void,
) -> sys::rd_kafka_resp_err_t {
    use sys::rd_kafka_resp_err_t as Error;
    let is_lost = matches!(
        error,
        Error::RD_KAFKA_RESP_ERR__TRANSPORT
            | Error::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Error::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
    );
    if is_lost && OF_TRANSACTIONS.contains(&request) {
        // SAFETY: the notes outlive the client.
        if let Some(notes) = unsafe { notes.cast_const().cast::<Notes>().as_ref() } {
            notes.lost.store(true, Ordering::SeqCst);
            notes.lost_end.fetch_or(request == END_TXN, Ordering::SeqCst);
        }
    }
    Error::RD_KAFKA_RESP_ERR_NO_ERROR
}
