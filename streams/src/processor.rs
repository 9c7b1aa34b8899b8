//! The processor API: what a node of the topology is made of.

use crate::log::Record;
use crate::store::{StateStore, StoreHandle, Stores};
use crate::topology::{ParamError, Params};
use std::fmt;
use std::sync::Arc;

/// What flows through a topology: the values on its edges, and how they leave a task.
pub trait Dataflow: Sized + 'static {
    /// The names of the edge types, as `topology.yaml` and the registry of node types use them.
    /// An edge type is an index into this list.
    const EDGE_TYPES: &'static [&'static str];
    /// The edge type of records as they lie in a topic, which no value has.
    const RAW: &'static str;
    /// The edge type of a root topic, of which a node that takes [`Dataflow::RAW`] makes values.
    const ROOT: &'static str;
    /// What nodes give besides their results.
    const SIDE_OUTPUT: SideOutput;
    /// Edge types of which a record is all that there is of its key: a topic of such values has one writer in each
    /// subtopology. That those of several write other keys is for their types to check.
    const ONE_WRITER: &'static [&'static str] = &[];
    /// Edge types whose values have a key of their own, other than that of what caused them: nodes with a key always read
    /// them behind a hop.
    const REKEYED: &'static [&'static str] = &[];
    /// Edge types whose values have an effect only where a node reads them, or a topic holds them.
    const INTERMEDIATE: &'static [&'static str] = &[];
    /// The header of a root topic's record with 16 bytes that name the request which brought it.
    const REQUEST_HEADER: &'static str;
    /// A value on an edge.
    type Value: Clone + fmt::Debug;
    /// Values on their way through one repartition topic, combined until the commit.
    type Hop: Hop<Self::Value>;
    /// What a node publishes about itself to the other nodes and to the application: nothing else of it is visible to
    /// them.
    type Facts: Default + Send + Sync;
    /// What a file declares about a kind of values, in the section `events`.
    type Declaration: Send + Sync;

    /// Parses the declaration of a kind.
    fn declare(kind: &str, params: &Params) -> Result<Self::Declaration, Vec<ParamError>>;

    /// The types of records that a node with these facts takes from outside: those that `cloud_event_types` may map to.
    fn types_from_outside(_facts: &Self::Facts) -> Vec<String> {
        Vec::new()
    }

    /// The edge type of a value.
    fn edge_type(value: &Self::Value) -> usize;

    /// The names of the kinds of values that a node with these facts takes; none where it takes every kind. Edges pass a
    /// node no others.
    fn kinds_taken(_facts: &Self::Facts) -> &[String] {
        &[]
    }

    /// Whether a node with these facts is meant for every kind, declared ones that no node names included.
    fn takes_declared(_facts: &Self::Facts) -> bool {
        false
    }

    /// The only key that topics may have to which nodes write values of this edge type; None where it is free.
    fn written_key(_edge_type: &str) -> Option<&'static str> {
        None
    }

    /// The kind of a value, as its place in [`Topology::kinds`](crate::topology::Topology::kinds). A value of a greater
    /// number goes only to nodes that take every kind.
    fn kind(_value: &Self::Value) -> usize {
        usize::MAX
    }

    /// Turns a value into a record of an output topic of a node with these facts.
    fn write(value: &Self::Value, writer: &Self::Facts, out: &mut OutputRecord);

    /// The header of a data record that carries what [`Dataflow::encode_progress`] makes. No value has one of this name.
    const PROGRESS_HEADER: &'static str;

    /// Encodes progress for a header, or for a record of the internal topic.
    fn encode_progress(progress: &OutputProgress<'_>) -> Vec<u8>;

    /// Turns progress into a record of an output topic, under a key that no value has. Only for logs whose records are
    /// written in the first wire version.
    fn write_progress(task: &str, generation: u16, roots: &[RootProgress], version: i64, out: &mut OutputRecord);
}

/// A topic that nodes write without naming it in `to`, where the file declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideOutput {
    /// The topic's name in the file. Its key is that of the root topic.
    pub topic: &'static str,
    /// The edge type of its values: every node that forwards some writes there.
    pub value: &'static str,
}

/// How far the root topic is contained in what a task has written up to one of its commits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputProgress<'a> {
    /// `<subtopology>/<partition>`.
    pub task: &'a str,
    /// The generation of its state.
    pub generation: u16,
    /// The number of the commit.
    pub commit: u64,
    /// Ascending by partition.
    pub roots: &'a [RootProgress],
    /// Topics that it owns a partition of, each with the number of its last commit that wrote there; empty in headers.
    pub outputs: &'a [(String, u64)],
}

/// Values on their way through a repartition topic.
pub trait Hop<V>: Default + Send {
    /// Adds a value, combining it with the present ones.
    fn add(&mut self, value: &V);
    /// Whether there is nothing to send.
    fn is_empty(&self) -> bool;
    /// Roughly how much memory it holds, in bytes.
    fn size_bytes(&self) -> usize;
    /// Emits bodies of about `body_bytes_max` each for the partitions they belong to, and is empty afterwards.
    fn drain(&mut self, partitions: u32, body_bytes_max: usize, emit: &mut dyn FnMut(u32, Vec<u8>));
    /// Drops all values.
    fn clear(&mut self);
    /// Reads a body back into values.
    fn decode(body: &[u8], each: &mut dyn FnMut(V)) -> Result<(), String>;
}

/// A record for an output topic, reused from value to value.
#[derive(Debug, Default)]
pub struct OutputRecord {
    /// The key.
    pub key: Vec<u8>,
    /// What the partition is computed from; the key where it is empty.
    pub partition_key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl OutputRecord {
    /// Empties it for the next value.
    pub fn clear(&mut self) {
        self.key.clear();
        self.partition_key.clear();
        self.value.clear();
    }
}

/// Progress in a partition of the root topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RootProgress {
    /// Partition of the root topic.
    pub partition: u32,
    /// Everything below it is contained.
    pub next_offset: u64,
    /// The clock there: no decision will be taken again as of an earlier time. Milliseconds since 1970.
    pub clock_ms: i64,
}

/// Ids that may have been forgotten too early, because the clock was ahead for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Those of events that happened before this time, when the clock was set right, …
    pub before_ms: i64,
    /// … and that were not to be kept beyond this one, to where it had run ahead.
    pub clock_ms: i64,
}

/// A value that a node cannot take. Nothing that it forwarded for this value goes out.
#[derive(Debug)]
pub struct Reject<V> {
    /// For people: what is wrong and what to do. The same text for the same mistake, so that reasons can be grouped: ids,
    /// positions and values belong into `detail`.
    pub reason: String,
    /// What differs from record to record.
    pub detail: Option<String>,
    /// The verdict for senders who wait for this record, if they can be identified.
    pub verdict: Option<Box<V>>,
}

impl<V> Reject<V> {
    /// Without details and without a verdict.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: None, verdict: None }
    }
}

/// Which time a punctuator goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PunctuationType {
    /// The task's clock: append times, so a function of the log.
    Clock,
    /// The task's clock too, for what is due at a time: fires whenever the clock moves, before the record that moved
    /// it, and most often finds nothing. A commit follows only where it sent something or changed a store.
    Timer,
    /// Wall time: for what must not change results.
    WallClock,
}

/// A punctuator fires whenever its time passes a multiple of `interval_ms`; once, however many it passes. A timer fires
/// whatever its interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The clock that it follows.
    pub kind: PunctuationType,
    /// At least 1.
    pub interval_ms: i64,
}

/// One node at work within one task. Pure: no I/O, no clock, no randomness but what the context gives.
pub trait Processor<D: Dataflow>: Send {
    /// Takes a value from upstream.
    fn process(&mut self, context: &mut Context<'_, D>, value: &D::Value) -> Result<(), Reject<D::Value>>;

    /// Takes a record of an outside topic; only nodes whose input is `raw` are given any.
    fn process_record(&mut self, _context: &mut Context<'_, D>, record: &Record<'_>) -> Result<(), Reject<D::Value>> {
        Err(Reject::new(format!("offset {}: this node takes no raw records", record.offset)))
    }

    /// When [`Processor::punctuate`] is to be called.
    fn schedules(&self) -> Vec<Schedule> {
        Vec::new()
    }

    /// A punctuator fired: the time of its kind is now `time_ms`. By clock it fires before the record that moved the clock.
    fn punctuate(&mut self, _context: &mut Context<'_, D>, _kind: PunctuationType, _time_ms: i64) {}

    /// Called before the commit: forward the values that were held back to be combined.
    fn flush(&mut self, _context: &mut Context<'_, D>) {}

    /// The transaction was rolled back: drop the values that were held back.
    fn discard(&mut self) {}

    /// When the first thing was due that this commit does not take, because one commit takes only so much: another one
    /// then follows at once, which calls [`Processor::flush`]. Until then, nodes behind a hop take the clock to be earlier.
    fn owes_since(&self) -> Option<i64> {
        None
    }

    /// How many records came too late for a window since the last commit, by window.
    fn take_late(&mut self) -> Vec<(Arc<str>, u64)> {
        Vec::new()
    }

    /// How many records counted for others since the last commit, because the node has as many keys as it may have.
    fn take_over_limit(&mut self) -> u64 {
        0
    }
}

/// What a node forwards.
pub(crate) enum Sent<V> {
    /// The node's input, unchanged.
    Input(Way),
    /// A new value.
    Value(Way, V),
    /// A value that was held back. Boxed: it is rare, and much larger than the others.
    Released(Way, Box<Released<V>>),
}

/// Where a node sends a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the takers of its edge type.
    ByType,
    /// To the readers of a named output, by its place in [`Blueprint::named_outputs`](crate::topology::Blueprint).
    Named(usize),
}

/// A value that a node held back and now releases.
pub struct Released<V> {
    /// The value.
    pub value: V,
    /// The record that brought it, and as of when it counts: `clock_ms` is the time it was due.
    pub origin: Origin,
    /// Key and value of a record with the same content, for the dead letters.
    pub record: (Vec<u8>, Vec<u8>),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Origin {
    /// Partition of the task's source topic.
    pub partition: u32,
    /// Offset there.
    pub offset: u64,
    /// When the log took the record, never before the task's clock at that time. Milliseconds since 1970.
    pub append_time_ms: i64,
    /// The task's clock when the record is taken in; for a held value, the time until which it was held. `i64::MIN`
    /// until every upstream task has reported.
    pub clock_ms: i64,
    /// The 16 bytes in the record's header [`Dataflow::REQUEST_HEADER`]: the request that brought it.
    pub request: Option<[u8; 16]>,
    /// Ids that the task may have forgotten too early.
    pub forgotten: Option<Forgotten>,
}

/// What a processor sees of its task.
pub struct Context<'a, D: Dataflow> {
    pub(crate) origin: &'a Origin,
    pub(crate) partitions: u32,
    pub(crate) version: i64,
    pub(crate) stores: &'a mut Stores,
    pub(crate) sent: &'a mut Vec<Sent<D::Value>>,
}

impl<D: Dataflow> Context<'_, D> {
    /// Sends a value to all takers of its edge type: nodes that name this one in `from`, topics named in `to`.
    pub fn forward(&mut self, value: D::Value) {
        self.sent.push(Sent::Value(Way::ByType, value));
    }

    /// Sends on what came in, without a copy.
    pub fn pass(&mut self) {
        self.sent.push(Sent::Input(Way::ByType));
    }

    /// Sends a value to the readers of a named output, by its place among those of the blueprint.
    pub fn forward_to(&mut self, output: usize, value: D::Value) {
        self.sent.push(Sent::Value(Way::Named(output), value));
    }

    /// Sends on what came in to the readers of a named output, without a copy.
    pub fn pass_to(&mut self, output: usize) {
        self.sent.push(Sent::Input(Way::Named(output)));
    }

    /// Sends on what an earlier record brought and this node held back. Only in `punctuate`: what is due goes before the
    /// record that moves the clock.
    pub fn release(&mut self, released: Released<D::Value>) {
        self.sent.push(Sent::Released(Way::ByType, Box::new(released)));
    }

    /// The same to the readers of a named output, by its place as in [`BuildSite::output`](crate::topology::BuildSite).
    /// Also in `flush`, for what is due and was still owed.
    pub fn release_to(&mut self, output: usize, released: Released<D::Value>) {
        self.sent.push(Sent::Released(Way::Named(output), Box::new(released)));
    }

    /// The record that is being processed; behind a hop, the record that carried the value. In `flush` and `punctuate`
    /// there is none, and only the partition means something.
    pub fn origin(&self) -> &Origin {
        self.origin
    }

    /// The task's clock, milliseconds since 1970; `i64::MIN` until every upstream task has reported. For a held value,
    /// its due time: everything that was sent downstream before is older.
    pub fn clock_ms(&self) -> i64 {
        self.origin.clock_ms
    }

    /// Orders records of the same key: generation << 48 | the number that the open transaction will commit under.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// How many partitions the task's source has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// A store of this node.
    pub fn store<S: StateStore>(&mut self, handle: StoreHandle<S>) -> &mut S {
        self.stores.get(handle)
    }
}
