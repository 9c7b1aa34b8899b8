//! Random bytes of the system for the names of requests, drawn many at a time, so that few requests need a system call.

use std::sync::{Mutex, PoisonError};

/// The bytes of a name.
const NAME_BYTES: usize = 16;
/// How many names are drawn at a time.
const NAMES: usize = 128;

/// See the module. Shared by all requests.
#[derive(Default)]
pub(crate) struct RandomNames(Mutex<Vec<[u8; NAME_BYTES]>>);

impl RandomNames {
    /// A name that no other request has. Fails where the system has no random bytes.
    pub(crate) fn draw(&self) -> Result<[u8; NAME_BYTES], getrandom::Error> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = drawn.pop() {
            return Ok(name);
        }
        let mut names = [[0; NAME_BYTES]; NAMES];
        getrandom::fill(names.as_flattened_mut())?;
        let [name, others @ ..] = names;
        drawn.extend(others);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_name_is_drawn_twice() {
        let names = RandomNames::default();
        let drawn: HashSet<_> = (0..3 * NAMES).map(|_| names.draw().unwrap()).collect();
        assert_eq!(drawn.len(), 3 * NAMES);
        assert!(!drawn.contains(&[0; NAME_BYTES]));
    }
}
