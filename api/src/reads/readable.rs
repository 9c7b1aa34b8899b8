//! What can be read: totals and boards.

use super::memory::MemoryStore;
use super::store::{Board, Key, ReadStore, StoreError, Stored, Totals};

/// What a ladder reads: totals or boards.
pub trait Readable: Clone + Send + Sync + 'static {
    /// From any store, in the order of the keys.
    fn read<S: ReadStore>(
        store: &S,
        keys: &[Key<'_>],
    ) -> impl Future<Output = Result<Vec<Option<Stored<Self>>>, StoreError>> + Send;

    /// From the cache in this process, where it has all of these: the values in the order of the keys, and the clock of
    /// the oldest, in milliseconds since 1970.
    fn all_in_memory(_memory: &MemoryStore, _keys: &[Key<'_>]) -> Option<(Vec<Self>, i64)> {
        None
    }

    /// Announces to the cache in this process that these are about to be loaded from another store.
    fn follow(_memory: &MemoryStore, _keys: &[Key<'_>]) {}

    /// Keeps a value of another store in the cache of this process.
    fn keep(_memory: &MemoryStore, _key: Key<'_>, _stored: &Stored<Self>) {}

    /// The value of a key without records, if the cache of this process knows that there are none.
    fn absent(_memory: &MemoryStore, _key: Key<'_>) -> Option<Stored<Self>> {
        None
    }

    /// The value in the cache of this process, even if the cache is not current.
    fn last_known(memory: &MemoryStore, key: Key<'_>) -> Option<Stored<Self>>;
}

impl Readable for Totals {
    async fn read<S: ReadStore>(store: &S, keys: &[Key<'_>]) -> Result<Vec<Option<Stored<Self>>>, StoreError> {
        store.totals(keys).await
    }

    fn all_in_memory(memory: &MemoryStore, keys: &[Key<'_>]) -> Option<(Vec<Self>, i64)> {
        memory.all_totals(keys)
    }

    fn follow(memory: &MemoryStore, keys: &[Key<'_>]) {
        memory.follow(keys);
    }

    fn keep(memory: &MemoryStore, key: Key<'_>, stored: &Stored<Self>) {
        memory.fill(key, stored);
    }

    fn absent(memory: &MemoryStore, key: Key<'_>) -> Option<Stored<Self>> {
        memory.absent(key)
    }

    fn last_known(memory: &MemoryStore, key: Key<'_>) -> Option<Stored<Self>> {
        memory.last_totals(key)
    }
}

/// The cache in this process has all boards or none: there is nothing to load into it.
impl Readable for Board {
    async fn read<S: ReadStore>(store: &S, keys: &[Key<'_>]) -> Result<Vec<Option<Stored<Self>>>, StoreError> {
        let mut boards = Vec::with_capacity(keys.len());
        for key in keys {
            boards.push(store.board(*key).await?);
        }
        Ok(boards)
    }

    fn last_known(memory: &MemoryStore, key: Key<'_>) -> Option<Stored<Self>> {
        memory.last_board(key)
    }
}
