//! The readers of streams, what each of them reads, and what is still to be sent to it.
//!
//! One lock guards everything. Under it an event gets its number and is marked for its readers, and a reader collects
//! its marked events. So numbers reach every reader in rising order, and a reader that has seen number n was sent the
//! latest event below n of everything it reads. A returning reader's id relies on this.
//!
//! A reader that does not read costs one mark per subject, never a queue: when it reads again it gets the latest event.

use super::event::{Content, EventId, HEARTBEAT};
use crate::metrics::LiveMetrics;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The mark of a heartbeat; those of subjects are below.
const HEARTBEAT_MARK: u128 = 1 << 127;
/// Seconds between the heartbeats of a reader.
pub const HEARTBEAT_SECONDS: u64 = 15;
/// An event whose time is older is written again for new readers.
const AS_OF_AGE_MAX_MS: i64 = 1_000;

/// The content of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// The counters of a subject.
    Subject(Arc<str>),
    /// A board.
    Board(Arc<str>),
}

/// All readers, and the latest event of everything that any of them reads.
pub struct Hub {
    process: u64,
    state: Mutex<State>,
    metrics: LiveMetrics,
}

#[derive(Default)]
struct State {
    /// The number of the last event.
    number: u64,
    channels: HashMap<Watched, Channel>,
    next_reader: u64,
    readers: HashMap<u64, Marks>,
    /// Subjects whose changes might not all be published, each once.
    unsettled: VecDeque<Arc<str>>,
    closed: bool,
}

#[derive(Default)]
struct Channel {
    latest: Option<Latest>,
    /// The index of this channel among those of a reader.
    readers: HashMap<u64, u32>,
    /// Without readers since the last sweep: the next one removes it.
    is_idle: bool,
    is_unsettled: bool,
}

struct Latest {
    id: EventId,
    version: i64,
    as_of_ms: i64,
    bytes: Bytes,
}

/// The events to send to a reader, and its waker.
#[derive(Default)]
struct Marks {
    bits: u128,
    waker: Option<Waker>,
}

impl Hub {
    /// Without readers. `process` distinguishes it from every other one.
    pub fn new(process: u64, metrics: LiveMetrics) -> Arc<Self> {
        Arc::new(Self { process, state: Mutex::default(), metrics })
    }

    /// A new reader of these, at most 100, with nothing marked. The channels that are new are returned: no task watches
    /// them yet. `watch` is called for each of them before another reader can find it.
    pub fn join(&self, of: &[Watched], mut watch: impl FnMut(&Watched)) -> Option<u64> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let state = &mut *state;
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(reader, Marks::default());
        for (place, watched) in (0..).zip(of) {
            let channel = state.channels.entry(watched.clone()).or_insert_with(|| {
                watch(watched);
                Channel::default()
            });
            channel.readers.insert(reader, place);
            channel.is_idle = false;
            if channel.latest.is_none() {
                channel.unsettle(watched, &mut state.unsettled);
            }
        }
        self.metrics.streams.set(state.readers.len() as i64);
        self.metrics.watched.set(state.channels.len() as i64);
        Some(reader)
    }

    /// Removes a reader.
    pub fn leave(&self, reader: u64, of: &[Watched]) {
        let mut state = self.lock();
        state.readers.remove(&reader);
        for watched in of {
            if let Some(channel) = state.channels.get_mut(watched) {
                channel.readers.remove(&reader);
            }
        }
        self.metrics.streams.set(state.readers.len() as i64);
    }

    /// Marks everything for a reader that it has not seen: `seen` is the last event it was sent, if any.
    pub fn begin(&self, reader: u64, of: &[Watched], seen: Option<EventId>) {
        let mut state = self.lock();
        let state = &mut *state;
        let has_seen = |id: EventId| {
            seen.is_some_and(|seen| seen.digest == id.digest || seen.process == id.process && id.number <= seen.number)
        };
        let mut bits = 0;
        for (place, watched) in of.iter().enumerate() {
            let latest = state.channels.get(watched).and_then(|channel| channel.latest.as_ref());
            if latest.is_some_and(|latest| !has_seen(latest.id)) {
                bits |= 1 << place;
            }
        }
        if let Some(marks) = state.readers.get_mut(&reader) {
            marks.bits = bits;
        }
    }

    /// Sends content to all its readers, unless it is older than or equal to theirs.
    pub fn publish(&self, watched: &Watched, content: &Content) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(channel) = state.channels.get_mut(watched) else { return };
        let number = state.number + 1;
        let id = EventId { process: self.process, number, digest: content.digest };
        match &mut channel.latest {
            Some(latest) if content.version < latest.version => return,
            Some(latest) if content.digest == latest.id.digest => {
                latest.version = content.version;
                if content.as_of_ms >= latest.as_of_ms.saturating_add(AS_OF_AGE_MAX_MS) {
                    latest.as_of_ms = content.as_of_ms;
                    latest.bytes = latest.id.write(content);
                }
                return;
            }
            latest => {
                let (version, as_of_ms) = (content.version, content.as_of_ms);
                *latest = Some(Latest { id, version, as_of_ms, bytes: id.write(content) });
            }
        }
        state.number = number;
        for (reader, place) in &channel.readers {
            if let Some(marks) = state.readers.get_mut(reader) {
                marks.mark(1 << place);
            }
        }
    }

    /// The events to send to a reader, ordered by number; None once the stream has ended.
    pub fn poll(&self, reader: u64, of: &[Watched], cx: &mut Context<'_>) -> Poll<Option<VecDeque<Bytes>>> {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(marks) = state.readers.get_mut(&reader).filter(|_| !state.closed) else { return Poll::Ready(None) };
        let bits = std::mem::take(&mut marks.bits);
        if bits == 0 {
            if !marks.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                marks.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let marked = of.iter().enumerate().filter(|(place, _)| bits & (1 << place) != 0);
        let latest = |(_, watched)| {
            let latest = state.channels.get(watched)?.latest.as_ref()?;
            Some((latest.id.number, latest.bytes.clone()))
        };
        let mut events: Vec<_> = marked.filter_map(latest).collect();
        events.sort_unstable_by_key(|(number, _)| *number);
        self.metrics.events.inc_by(events.len() as u64);
        let mut events: VecDeque<_> = events.into_iter().map(|(_, bytes)| bytes).collect();
        if events.is_empty() {
            events.push_back(HEARTBEAT);
        }
        Poll::Ready(Some(events))
    }

    /// Sends heartbeats to the readers that are due in this second.
    pub fn beat(&self, second: u64) {
        let mut state = self.lock();
        let turn = second % HEARTBEAT_SECONDS;
        let whose = state.readers.iter_mut().filter(|(reader, _)| *reader % HEARTBEAT_SECONDS == turn);
        whose.for_each(|(_, marks)| marks.mark(HEARTBEAT_MARK));
    }

    /// Removes the channels that had no reader since the last call. `unwatch` is called for each under the lock.
    pub fn sweep(&self, mut unwatch: impl FnMut(&Watched)) {
        let mut state = self.lock();
        state.channels.retain(|watched, channel| {
            let is_over = channel.readers.is_empty() && std::mem::replace(&mut channel.is_idle, true);
            if !channel.readers.is_empty() {
                channel.is_idle = false;
            }
            if is_over {
                unwatch(watched);
            }
            !is_over
        });
        self.metrics.watched.set(state.channels.len() as i64);
    }

    /// Takes some subjects that are not settled, in turn; the caller hands them back.
    pub fn unsettled(&self, max: usize) -> Vec<Arc<str>> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(id) = state.unsettled.pop_front()
        {
            // A channel that was removed meanwhile has no readers.
            if let Some(channel) = state.channels.get_mut(&Watched::Subject(id.clone())) {
                channel.is_unsettled = false;
                taken.push(id);
            }
        }
        taken
    }

    /// The changes of these subjects might not all be published.
    pub fn unsettle(&self, ids: impl IntoIterator<Item = Arc<str>>) {
        let mut state = self.lock();
        let state = &mut *state;
        for id in ids {
            let watched = Watched::Subject(id);
            if let Some(channel) = state.channels.get_mut(&watched) {
                channel.unsettle(&watched, &mut state.unsettled);
            }
        }
    }

    /// No subject is settled any more.
    pub fn unsettle_all(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        for (watched, channel) in &mut state.channels {
            channel.unsettle(watched, &mut state.unsettled);
        }
    }

    /// The boards of all streams, and the version that was sent of each.
    pub fn boards(&self) -> Vec<(Arc<str>, Option<i64>)> {
        let state = self.lock();
        let board = |(watched, channel): (&Watched, &Channel)| match watched {
            Watched::Board(board) if !channel.readers.is_empty() => {
                Some((board.clone(), channel.latest.as_ref().map(|latest| latest.version)))
            }
            Watched::Board(_) | Watched::Subject(_) => None,
        };
        state.channels.iter().filter_map(board).collect()
    }

    /// Ends all streams and rejects new ones.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.readers.values_mut().filter_map(|marks| marks.waker.take()).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// A subject is in the queue at most once. Boards are checked every time.
    fn unsettle(&mut self, watched: &Watched, queue: &mut VecDeque<Arc<str>>) {
        if let Some(id) = watched.subject()
            && !std::mem::replace(&mut self.is_unsettled, true)
        {
            queue.push_back(id.clone());
        }
    }
}

impl Watched {
    /// The subject's id, if it is one.
    pub fn subject(&self) -> Option<&Arc<str>> {
        match self {
            Self::Subject(id) => Some(id),
            Self::Board(_) => None,
        }
    }
}

impl Marks {
    fn mark(&mut self, bits: u128) {
        self.bits |= bits;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ApiMetrics;
    use prometheus::Registry;

    fn hub() -> Arc<Hub> {
        Hub::new(7, ApiMetrics::register(&Registry::new()).unwrap().live)
    }

    fn subjects(count: usize) -> Vec<Watched> {
        (0..count).map(|n| Watched::Subject(format!("a:{n}").into())).collect()
    }

    fn content(value: i64) -> Content {
        let (json, digest) = (value.to_string().into(), value as u64);
        Content { name: "counters", json, digest, version: value, as_of_ms: value }
    }

    /// The values that a reader is sent now.
    fn sent(hub: &Hub, reader: u64, of: &[Watched]) -> Vec<String> {
        let Poll::Ready(Some(events)) = hub.poll(reader, of, &mut Context::from_waker(Waker::noop())) else {
            return Vec::new();
        };
        let text = |event: Bytes| String::from_utf8(event.to_vec()).unwrap();
        let value = |event: String| event.lines().find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
        events.into_iter().map(|event| value(text(event)).unwrap_or_else(|| "beat".into())).collect()
    }

    fn id(number: u64, digest: u64) -> Option<EventId> {
        Some(EventId { process: 7, number, digest })
    }

    #[test]
    fn a_reader_that_does_not_read_gets_the_latest_of_each_in_the_order_of_numbers() {
        let (hub, of) = (hub(), subjects(100));
        let (slow, quick) = (hub.join(&of, |_| ()).unwrap(), hub.join(&of[..2], |_| ()).unwrap());
        for value in 1..=50 {
            hub.publish(&of[99], &content(value));
            hub.publish(&of[0], &content(value + 100));
            assert_eq!(sent(&hub, quick, &of[..2]), [(value + 100).to_string()]);
        }
        hub.publish(&of[99], &content(51));
        assert_eq!(sent(&hub, slow, &of), ["150", "51"]);
        assert!(sent(&hub, slow, &of).is_empty());
        // Content that is older or equal is no event, but new readers get its time.
        hub.publish(&of[99], &content(50));
        hub.publish(
            &of[99],
            &Content { version: 60, as_of_ms: 5_000, json: Bytes::from_static(b"later"), ..content(51) },
        );
        assert!(sent(&hub, slow, &of).is_empty());
        let late = hub.join(&of[99..], |_| ()).unwrap();
        hub.begin(late, &of[99..], None);
        assert_eq!(sent(&hub, late, &of[99..]), ["later"]);
    }

    #[test]
    fn who_comes_back_gets_what_has_changed_since() {
        let (hub, of) = (hub(), subjects(3));
        let reader = hub.join(&of, |_| ()).unwrap();
        (1..).zip(&of).for_each(|(value, watched)| hub.publish(watched, &content(value)));
        hub.leave(reader, &of);
        hub.publish(&of[0], &content(11));
        let begun = |seen| {
            let reader = hub.join(&of, |_| ()).unwrap();
            hub.begin(reader, &of, seen);
            sent(&hub, reader, &of)
        };
        assert_eq!(begun(None), ["2", "3", "11"]);
        assert_eq!(begun(id(3, 0)), ["11"]);
        assert_eq!(begun(id(2, 0)), ["3", "11"]);
        assert!(begun(id(4, 11)).is_empty());
        // Only the process of the id knows what it has sent; for an id of another process the digest decides.
        assert_eq!(begun(Some(EventId { process: 8, number: 9, digest: 11 })), ["2", "3"]);
    }

    #[test]
    fn channels_go_with_the_second_sweep_after_their_last_reader_and_streams_with_the_hub() {
        let (hub, of) = (hub(), subjects(2));
        let mut watched = 0;
        let first = hub.join(&of, |_| watched += 1).unwrap();
        let second = hub.join(&of[..1], |_| watched += 1).unwrap();
        assert_eq!((watched, hub.unsettled(9).len(), hub.unsettled(9).len()), (2, 2, 0));
        let swept = || {
            let mut swept = Vec::new();
            hub.sweep(|watched| swept.push(watched.clone()));
            swept
        };
        assert!(swept().is_empty());
        hub.leave(first, &of);
        assert!(swept().is_empty());
        assert_eq!(swept(), [of[1].clone()]);
        hub.unsettle_all();
        assert_eq!(hub.unsettled(9).len(), 1);
        (0..HEARTBEAT_SECONDS).for_each(|turn| hub.beat(turn));
        assert_eq!(sent(&hub, second, &of[..1]), ["beat"]);
        hub.close();
        let ended = hub.poll(second, &of[..1], &mut Context::from_waker(Waker::noop()));
        assert!(matches!(ended, Poll::Ready(None)) && hub.join(&of, |_| ()).is_none());
    }
}
