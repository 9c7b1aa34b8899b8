use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::*;
use crate::log::in_process::consumer::EngineConsumer;
use crate::log::in_process::memory::MemoryStorage;
use crate::log::in_process::request::PartitionWrites;
use crate::log::in_process::view::Bounds;
use crate::log::{Cleanup, Consumer, GroupMetadata, Polled, TopicPartition};

/// A storage that can fail, counts, and lets a test look around while a commit is stored and not yet published.
#[derive(Clone, Default)]
struct Watched(Arc<Watch>);

#[derive(Default)]
struct Watch {
    inner: MemoryStorage,
    stored: OnceLock<Box<dyn Fn() + Send + Sync>>,
    fails: Mutex<Option<LogError>>,
    /// Values appended by each commit.
    commits: Mutex<Vec<usize>>,
}

impl Storage for Watched {
    fn commit(&self, ops: &[Op<'_>]) -> Result<(), LogError> {
        if let Some(error) = self.0.fails.lock().unwrap().clone() {
            return Err(error);
        }
        self.0.commits.lock().unwrap().push(ops.iter().filter(|op| matches!(op, Op::Append { .. })).count());
        self.0.inner.commit(ops)?;
        self.0.stored.get().iter().for_each(|look| look());
        Ok(())
    }

    fn scan(
        &self,
        partition: PartitionId,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), LogError> {
        self.0.inner.scan(partition, from, each)
    }

    fn bounds(&self, partition: PartitionId) -> Result<Option<(u64, u64)>, LogError> {
        self.0.inner.bounds(partition)
    }

    fn stored_bytes(&self, partition: PartitionId) -> Result<u64, LogError> {
        self.0.inner.stored_bytes(partition)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        self.0.inner.get(key)
    }
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// A writer with one topic of two partitions.
fn writer(storage: &Watched) -> Writer {
    let mut writer = Writer::new(Box::new(storage.clone()), Arc::new(|| 0));
    let spec =
        TopicSpec { name: "t".into(), partitions: 2, cleanup: Cleanup::Delete, retention: None, retention_bytes: None };
    run(&mut writer, vec![Request::Ensure(vec![spec], Reply::new(|done| assert_eq!(done, Ok(()))))]);
    storage.0.commits.lock().unwrap().clear();
    writer
}

fn batches(values: &[&str]) -> Batches {
    let mut batches = Batches::default();
    values.iter().for_each(|value| batches.push(None, Some(value.as_bytes()), &[]));
    batches
}

type Told<T> = Arc<Mutex<Option<Result<T, LogError>>>>;

fn told<T: Send + 'static>() -> (Reply<T>, Told<T>) {
    let told = Told::default();
    let theirs = told.clone();
    (Reply::new(move |answer| *theirs.lock().unwrap() = Some(answer)), told)
}

fn append(writer: &Writer, writes: PartitionWrites) -> (Request, Told<AppendedOffsets>) {
    let topic = writer.view.registry().topic("t").unwrap().clone();
    let (reply, told) = told();
    (Request::Append(Append { topic, writes, bytes: 0, reply }), told)
}

fn transaction(holder: &Arc<Holder>, writes: Vec<(PartitionId, Batches)>, offset: u64) -> (Request, Told<()>) {
    let (reply, told) = told();
    let committed = CommittedOffset { offset, metadata: String::new() };
    let offsets = vec![(keys::offset("g", 0), committed)];
    let memberships = vec![GroupMetadata { group: "g".into(), ..GroupMetadata::default() }];
    (Request::Transaction(Transaction { holder: holder.clone(), writes, offsets, memberships, reply }), told)
}

fn run(writer: &mut Writer, requests: Vec<Request>) {
    writer.run(requests).into_iter().for_each(Answer::deliver);
}

fn take<T>(told: &Told<T>) -> Result<T, LogError> {
    told.lock().unwrap().take().expect("there is an answer")
}

#[test]
fn all_that_waits_is_one_commit_and_one_value_a_partition() {
    let storage = Watched::default();
    let mut writer = writer(&storage);
    let holder = Arc::new(Holder::new("id".into()));
    let (one, one_told) = append(&writer, vec![(0, batches(&["a", "b"])), (1, batches(&["c"]))]);
    let (two, two_told) = transaction(&holder, vec![(1, batches(&["d"]))], 7);
    let (three, three_told) = append(&writer, vec![(1, batches(&["e"]))]);
    run(&mut writer, vec![one, two, three]);
    assert_eq!(*storage.0.commits.lock().unwrap(), [2]);
    assert_eq!(take(&one_told), Ok(vec![(0, 1), (1, 0)]));
    assert_eq!(take(&two_told), Ok(()));
    assert_eq!(take(&three_told), Ok(vec![(1, 2)]));
    assert_eq!(writer.view.bounds(&at(1)), Ok(Bounds { start: 0, end: 3 }));
}

#[test]
fn what_is_stored_shows_when_it_is_published_and_not_before() {
    let storage = Watched::default();
    let mut writer = writer(&storage);
    let holder = Arc::new(Holder::new("id".into()));
    let view = writer.view();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = seen.clone();
    let look = move || {
        let mut consumer = EngineConsumer::new(view.clone(), "");
        consumer.assign(&at(0), 0).unwrap();
        let records = match consumer.poll(Duration::ZERO).unwrap() {
            Polled::Records { records, .. } => records.count(),
            _ => 0,
        };
        let committed = view.committed("g", 0).unwrap().map(|committed| committed.offset);
        theirs.lock().unwrap().push((view.bounds(&at(0)).unwrap().end, records, committed));
    };
    assert!(storage.0.stored.set(Box::new(look)).is_ok());
    for offset in [7, 8] {
        let (request, told) = transaction(&holder, vec![(0, batches(&["a"]))], offset);
        run(&mut writer, vec![request]);
        assert_eq!(take(&told), Ok(()));
    }
    assert_eq!(*seen.lock().unwrap(), [(0, 0, None), (1, 1, Some(7))]);
    assert_eq!(writer.view.committed("g", 0).map(|c| c.map(|c| c.offset)), Ok(Some(8)));
}

#[test]
fn records_that_are_being_removed_are_no_gap() {
    let storage = Watched::default();
    let mut writer = writer(&storage);
    for value in ["a", "b", "c"] {
        let (request, _) = append(&writer, vec![(0, batches(&[value]))]);
        run(&mut writer, vec![request]);
    }
    let mut consumer = EngineConsumer::new(writer.view(), "");
    consumer.assign(&at(0), 0).unwrap();
    let (consumer, told_reader) = (Mutex::new(consumer), Arc::new(Mutex::new(None)));
    let theirs = told_reader.clone();
    let look = move || *theirs.lock().unwrap() = consumer.lock().unwrap().poll(Duration::ZERO).err();
    assert!(storage.0.stored.set(Box::new(look)).is_ok());
    let (reply, told) = told();
    run(&mut writer, vec![Request::Delete(at(0), 2, reply)]);
    assert_eq!(take(&told), Ok(()));
    let expected = LogError::OutOfRange { partition: at(0), offset: 0, start: 2, end: 3 };
    assert_eq!(*told_reader.lock().unwrap(), Some(expected));
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let storage = Watched::default();
    let mut writer = writer(&storage);
    let holder = Arc::new(Holder::new("id".into()));
    let (request, _) = append(&writer, vec![(0, batches(&["a", "b"]))]);
    run(&mut writer, vec![request]);
    let full = LogError::Full("on purpose".into());
    *storage.0.fails.lock().unwrap() = Some(full.clone());

    let (appended, append_told) = append(&writer, vec![(0, batches(&["lost"]))]);
    let (committed, commit_told) = transaction(&holder, vec![(0, batches(&["lost"]))], 7);
    let ((delete, delete_told), (take_over, holder_told)) = (told(), told());
    let requests =
        vec![appended, committed, Request::TakeOver("id".into(), take_over), Request::Delete(at(0), 1, delete)];
    run(&mut writer, requests);
    assert_eq!(take(&append_told), Err(full.clone()));
    assert_eq!(take(&commit_told), Err(full.clone()));
    assert_eq!(take(&delete_told), Err(full));
    assert!(take(&holder_told).is_ok(), "what needs no storage is done");
    assert_eq!(writer.view.bounds(&at(0)), Ok(Bounds { start: 0, end: 2 }));
    assert_eq!(writer.view.committed("g", 0), Ok(None));

    *storage.0.fails.lock().unwrap() = None;
    let (request, told) = append(&writer, vec![(0, batches(&["c"]))]);
    run(&mut writer, vec![request]);
    assert_eq!(take(&told), Ok(vec![(0, 2)]), "no offset was used up");
}

#[test]
fn a_take_over_parts_what_waits() {
    let storage = Watched::default();
    let mut writer = writer(&storage);
    let (reply, held) = told();
    run(&mut writer, vec![Request::TakeOver("id".into(), reply)]);
    let former = take(&held).unwrap();
    let (before, before_told) = transaction(&former, vec![(0, batches(&["before"]))], 1);
    let (after, after_told) = transaction(&former, vec![(0, batches(&["after"]))], 2);
    let (reply, held) = told();
    run(&mut writer, vec![before, Request::TakeOver("id".into(), reply), after]);
    assert_eq!(take(&before_told), Ok(()), "it was there first, and is durable when the successor gets its response");
    assert_eq!(take(&after_told), Err(LogError::Fenced("id".into())));
    assert!(take(&held).is_ok_and(|holder| holder.check().is_ok()));
    assert_eq!(writer.view.committed("g", 0).map(|c| c.map(|c| c.offset)), Ok(Some(1)));
}
