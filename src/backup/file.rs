//! Files that are copied durably, with their checksums.

use super::BackedUpFile;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 1 << 20;

/// A path whose last part has an ending more.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    // A slash at the end is no part of the name.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Refuses a path at which there is anything but an empty directory.
pub fn refuse_data(path: &Path) -> Result<(), String> {
    let is_empty_dir = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match path.symlink_metadata() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        _ if is_empty_dir() => Ok(()),
        _ => Err(format!("{}: there is data already: move it away, or name another place", path.display())),
    }
}

/// Makes the names of the files in a directory survive a crash of the system.
pub fn sync_dir(dir: &Path) -> Result<(), String> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| format!("{}: {e}", dir.display()))
}

impl BackedUpFile {
    /// Describes a file of a backup.
    pub fn describe(dir: &Path, path: &str) -> Result<Self, String> {
        let file = dir.join(path);
        let (size_bytes, checksum) = read(&file, |_| Ok(()))?;
        Ok(Self { path: path.to_owned(), size_bytes, crc32c: format!("{checksum:08x}") })
    }

    /// Writes the file of a backup over an empty file, durably. Fails where it is not what it was.
    pub fn restore(&self, dir: &Path, to: &Path) -> Result<(), String> {
        let file = dir.join(&self.path);
        let wrong = |e: io::Error| format!("{}: {e}", to.display());
        let mut target = File::create(to).map_err(wrong)?;
        let (size_bytes, checksum) = read(&file, |bytes| target.write_all(bytes).map_err(wrong))?;
        let damaged = |what: String| Err(format!("{}: is damaged: {what}: use another backup", file.display()));
        if size_bytes != self.size_bytes {
            return damaged(format!("it has {size_bytes} bytes, and the manifest lists {}", self.size_bytes));
        }
        let checksum = format!("{checksum:08x}");
        if checksum != self.crc32c {
            return damaged(format!("its checksum is {checksum}, and the manifest lists {}", self.crc32c));
        }
        target.sync_all().map_err(wrong)
    }
}

/// Reads a file to its end; its length and checksum.
fn read(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(u64, u32), String> {
    let wrong = |e: io::Error| format!("{}: {e}", path.display());
    let mut file = File::open(path).map_err(wrong)?;
    let (mut buffer, mut size_bytes, mut checksum) = (vec![0; CHUNK_BYTES], 0, 0);
    loop {
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return Ok((size_bytes, checksum)),
            Ok(count) => &buffer[..count],
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(wrong(e)),
        };
        checksum = crc32c::crc32c_append(checksum, bytes);
        size_bytes += bytes.len() as u64;
        each(bytes)?;
    }
}

/// A directory or file that does not exist yet, or only as an empty directory. It is written under another name, and gets
/// its own at once when it is complete. What is not completed is removed.
pub struct Place {
    path: PathBuf,
    unfinished: PathBuf,
    is_finished: bool,
}

impl Place {
    /// A directory with these permissions.
    pub fn directory(path: &Path, suffix: &str, mode: u32) -> Result<Self, String> {
        Self::new(path, suffix, |path| DirBuilder::new().mode(mode).create(path))
    }

    /// A file.
    pub fn file(path: &Path, suffix: &str) -> Result<Self, String> {
        Self::new(path, suffix, |path| File::create_new(path).map(drop))
    }

    /// Refuses a path that has data, and one that another process, or one that was killed, has not finished.
    fn new(path: &Path, suffix: &str, create: impl FnOnce(&Path) -> io::Result<()>) -> Result<Self, String> {
        refuse_data(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
        }
        let unfinished = with_suffix(path, suffix);
        create(&unfinished).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                format!(
                    "{}: was left by a command that was cut short, or one still runs: delete it",
                    unfinished.display()
                )
            }
            _ => format!("{}: {e}", unfinished.display()),
        })?;
        Ok(Self { path: path.to_owned(), unfinished, is_finished: false })
    }

    /// Where to write.
    pub fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Gives it its name, durably.
    pub fn finish(mut self) -> Result<(), String> {
        let wrong = |e: io::Error| format!("{}: {e}", self.path.display());
        if self.unfinished.is_dir() {
            sync_dir(&self.unfinished)?;
        }
        fs::rename(&self.unfinished, &self.path).map_err(wrong)?;
        self.is_finished = true;
        sync_dir(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_finished {
            // It may not exist, and what cannot be removed is refused by the next command.
            let _ = fs::remove_dir_all(&self.unfinished).or_else(|_| fs::remove_file(&self.unfinished));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, content) = (dir.path(), vec![7; CHUNK_BYTES + 5]);
        let restored = |content: &[u8], number: u32| {
            fs::write(dir.join("a"), content).unwrap();
            let crc32c = format!("{:08x}", crc32c::crc32c(&[7; CHUNK_BYTES + 5]));
            let entry = BackedUpFile { path: "a".into(), size_bytes: CHUNK_BYTES as u64 + 5, crc32c };
            entry.restore(dir, &dir.join(format!("b{number}")))
        };
        assert_eq!(restored(&content, 0), Ok(()));
        assert_eq!(fs::read(dir.join("b0")).unwrap(), content);
        let cut = restored(&content[1..], 1).unwrap_err();
        assert!(cut.contains("a: is damaged: it has 1048580 bytes, and the manifest lists 1048581"), "{cut}");
        let mut flipped = content.clone();
        flipped[CHUNK_BYTES] ^= 4;
        let flipped = restored(&flipped, 2).unwrap_err();
        assert!(
            flipped.contains("a: is damaged: its checksum is ") && flipped.ends_with("use another backup"),
            "{flipped}"
        );
        let entry = BackedUpFile::describe(dir, "b0").unwrap();
        assert_eq!((entry.size_bytes, entry.crc32c.len()), (content.len() as u64, 8));
    }

    #[test]
    fn a_place_is_taken_when_it_is_finished_and_cleared_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/a");
        let new = || Place::directory(&path, ".incomplete", 0o700);
        let place = new().unwrap();
        let refused = new().err().unwrap();
        assert!(refused.contains("a.incomplete: was left by a command"), "{refused}");
        assert!(place.unfinished().is_dir(), "that of another is left alone");
        drop(place);
        assert!(fs::read_dir(dir.path().join("deep")).unwrap().next().is_none());
        fs::create_dir(&path).unwrap();
        let place = new().unwrap();
        fs::write(place.unfinished().join("b"), "c").unwrap();
        place.finish().unwrap();
        assert_eq!(fs::read(path.join("b")).unwrap(), b"c");
        assert!(new().err().unwrap().contains("there is data already"));
        assert!(Place::file(&path.join("b"), ".x").err().unwrap().contains("there is data already"));
    }
}
