//! The locks of the memory cache: a lock stays usable after a panic under it. In tests each is a point at which
//! `interleaving` may let another thread go on.

#[cfg(test)]
use std::sync::TryLockError;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Waits until no thread writes.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    #[cfg(test)]
    crate::interleaving::step(|| !matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other thread reads or writes.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    #[cfg(test)]
    crate::interleaving::step(|| !matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
