//! An idempotent producer without transactions. Each record carries a reference to its request, and the delivery reports of
//! a batch are passed on together.

use super::super::super::{Headers, OwnedRecord};
use super::super::context::Quiet;
use super::NativeError;
use super::events::{self, Served};
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaType;
use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a producer that ends waits for the reports of the records that it gives up.
const END: Duration = Duration::from_millis(500);

/// See the module. `T` is a request.
pub(in crate::log::kafka) struct AppendProducer<T> {
    client: Arc<Client<Quiet>>,
    requests: PhantomData<fn(Arc<T>) -> Arc<T>>,
}

/// A topic as a producer knows it; looking it up by name for each record costs more.
pub(in crate::log::kafka) struct AppendTopic {
    topic: NonNull<sys::rd_kafka_topic_t>,
    // The client outlives its topics.
    _client: Arc<Client<Quiet>>,
}

// SAFETY: librdkafka's topics may be used from any thread at the same time.
unsafe impl Send for AppendTopic {}
// SAFETY: as above.
unsafe impl Sync for AppendTopic {}

/// The outcome of consecutive records of a partition that belong to one request.
pub(in crate::log::kafka) struct Report<T> {
    pub request: Arc<T>,
    pub partition: u32,
    /// The number of records.
    pub count: usize,
    /// The greatest offset, or why they may not have arrived.
    pub outcome: Result<u64, Code>,
}

impl<T: Send + Sync> AppendProducer<T> {
    /// Starts a client, which does not connect yet.
    pub fn start(config: &ClientConfig) -> Result<Self, KafkaError> {
        let native = config.create_native_config()?;
        let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        // SAFETY: the configuration is alive.
        unsafe { sys::rd_kafka_conf_set_events(native.ptr(), events) };
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, Quiet::default())?;
        Ok(Self { client: Arc::new(client), requests: PhantomData })
    }

    /// A topic to send to.
    pub fn topic(&self, name: &str) -> Result<AppendTopic, NativeError> {
        let plain = |what: &str| NativeError::plain(format!("topic `{name}` {what}"));
        let name = CString::new(name).map_err(|_| plain("has a NUL in its name"))?;
        // SAFETY: the client is alive, and the name outlives the call, which copies it.
        let topic = unsafe { sys::rd_kafka_topic_new(self.client.native_ptr(), name.as_ptr(), std::ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| plain("is refused by the client"))?;
        Ok(AppendTopic { topic, _client: self.client.clone() })
    }

    /// Gives a record to the client, which copies it. Exactly one report follows, unless this fails.
    pub fn send(&self, topic: &AppendTopic, record: &OwnedRecord, request: &Arc<T>) -> Result<(), NativeError> {
        use sys::rd_kafka_vtype_t as Kind;
        let field = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        let bytes = |bytes: &Option<bytes::Bytes>| {
            // None and empty differ: an empty slice has an address as well.
            let (ptr, size) = bytes.as_ref().map_or((std::ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()));
            let ptr = ptr.cast_mut().cast::<c_void>();
            Value { mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } }
        };
        let headers = || Headers::encoded(&record.headers).iter();
        let names = headers().map(|(name, _)| CString::new(name)).collect::<Result<Vec<_>, _>>();
        let names = names.map_err(|_| NativeError::plain("the name of a header has a NUL in it".to_owned()))?;
        let opaque = Arc::into_raw(request.clone());
        let mut fields = Vec::with_capacity(6 + names.len());
        fields.extend([
            field(Kind::RD_KAFKA_VTYPE_RKT, Value { rkt: topic.topic.as_ptr() }),
            field(Kind::RD_KAFKA_VTYPE_PARTITION, Value { i32_: record.partition as i32 }),
            field(Kind::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY }),
            field(Kind::RD_KAFKA_VTYPE_KEY, bytes(&record.key)),
            field(Kind::RD_KAFKA_VTYPE_VALUE, bytes(&record.value)),
            field(Kind::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: opaque.cast_mut().cast::<c_void>() }),
        ]);
        for (name, (_, value)) in names.iter().zip(headers()) {
            let (val, size) = (value.as_ptr().cast::<c_void>(), value.len() as isize);
            let header = sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_2 { name: name.as_ptr(), val, size };
            fields.push(field(Kind::RD_KAFKA_VTYPE_HEADER, Value { header }));
        }
        // SAFETY: client and topic are alive; each field has the member of its kind set, and all that they point to
        // outlives the call, which copies it, but for the request: a record that was taken owns its reference until
        // the report, and one that was not leaves it to us.
        unsafe {
            let error = sys::rd_kafka_produceva(self.client.native_ptr(), fields.as_ptr(), fields.len());
            if !error.is_null() {
                drop(Arc::from_raw(opaque));
            }
            NativeError::take(error)
        }
    }

    /// Waits for an event and handles it.
    pub fn serve(&self, timeout: Duration, settle: &mut dyn FnMut(Report<T>)) -> Served {
        events::serve(&self.client, timeout, |event| {
            // SAFETY: the reports are of records that `send` gave to this client.
            unsafe { settle_all(event, settle) }
        })
    }

    /// Gives up every record that is not acknowledged, and passes on their reports.
    pub fn end(&self, settle: &mut dyn FnMut(Report<T>)) {
        let everything = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_purge(self.client.native_ptr(), everything) };
        let deadline = Instant::now() + END;
        // SAFETY: the client is alive.
        while unsafe { sys::rd_kafka_outq_len(self.client.native_ptr()) } > 0 && Instant::now() < deadline {
            self.serve(Duration::from_millis(10), settle);
        }
    }
}

impl Drop for AppendTopic {
    fn drop(&mut self) {
        // SAFETY: the topic was made by `topic` and is given back once; its client is still alive.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

type Value = sys::rd_kafka_vu_s__bindgen_ty_1;

/// Passes on the delivery reports of an event.
///
/// # Safety
/// `event` holds delivery reports of records that an `AppendProducer<T>` has sent.
// SAFETY: for the caller, as the comment says.
unsafe fn settle_all<T>(event: *mut sys::rd_kafka_event_t, settle: &mut dyn FnMut(Report<T>)) {
    let mut last: Option<Report<T>> = None;
    // SAFETY: the event is alive. Each message is read once, so each reference that a record owns is taken once.
    while let Some(message) = unsafe { sys::rd_kafka_event_message_next(event).as_ref() } {
        // SAFETY: as above: `send` made the pointer of an `Arc<T>`.
        let request = unsafe { Arc::from_raw(message._private.cast_const().cast::<T>()) };
        let partition = u32::try_from(message.partition).unwrap_or_default();
        let outcome = match message.err {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(message.offset.max(0) as u64),
            error => Err(Code::from(error)),
        };
        let report = match last.take() {
            Some(mut last)
                if Arc::ptr_eq(&last.request, &request)
                    && last.partition == partition
                    && last.outcome.is_ok() == outcome.is_ok() =>
            {
                last.count += 1;
                if let (Ok(last), Ok(offset)) = (&mut last.outcome, outcome) {
                    *last = offset.max(*last);
                }
                last
            }
            other => {
                other.into_iter().for_each(&mut *settle);
                Report { request, partition, count: 1, outcome }
            }
        };
        last = Some(report);
    }
    last.into_iter().for_each(settle);
}
