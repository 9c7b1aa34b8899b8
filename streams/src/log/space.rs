//! What a log takes on the disk.

/// What a log takes on the disk of this machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The length of its file, which never shrinks by itself.
    pub file_bytes: u64,
    /// Pages of the file that hold something.
    pub live_bytes: u64,
}
