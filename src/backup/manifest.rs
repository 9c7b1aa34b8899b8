//! The manifest.

use super::{DATABASE_FILE, LOG_FILE};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// The manifest's file within a backup.
pub const MANIFEST: &str = "manifest.json";

/// The newest format that this release knows.
const FORMAT: u32 = 1;

/// What a backup contains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the backup's directory.
    pub format: u32,
    /// The release that made it.
    pub release: String,
    /// The moment of both copies.
    pub taken_at: String,
    /// The log's id for each application that uses it.
    pub logs: Vec<Identity>,
    /// By topic, the offset after the last record of each partition.
    pub ends: BTreeMap<String, Vec<u64>>,
    /// The copies.
    pub files: Vec<BackedUpFile>,
}

/// Identifies a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// As the topology names it.
    pub application: String,
    /// As messages and the table `sink_log` show it.
    pub log_id: String,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackedUpFile {
    /// Within the backup.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// CRC32C of its content, in hexadecimal digits.
    pub crc32c: String,
}

/// The file: a manifest as it was written, and the checksum of these bytes.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    crc32c: String,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Manifest {
    /// The manifest of a backup that was taken now.
    pub fn new(taken_at: String, logs: Vec<Identity>, ends: BTreeMap<String, Vec<u64>>) -> Self {
        Self { format: FORMAT, release: env!("CARGO_PKG_VERSION").to_owned(), taken_at, logs, ends, files: Vec::new() }
    }

    /// One of its files, if the backup has it.
    pub fn file(&self, path: &str) -> Option<&BackedUpFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Writes it to a backup, durably.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(MANIFEST);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = serde_json::to_string(self).map_err(|e| wrong(&e))?;
        let manifest: &RawValue = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        let mut sealed = serde_json::to_vec(&Sealed { crc32c: checksum(&text), manifest }).map_err(|e| wrong(&e))?;
        sealed.push(b'\n');
        let mut file = File::create(&path).map_err(|e| wrong(&e))?;
        file.write_all(&sealed).and_then(|()| file.sync_all()).map_err(|e| wrong(&e))
    }

    /// Reads that of a backup. The error says what is wrong with the backup.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(MANIFEST);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(wrong(&"is missing: this is not a backup, or one that was not completed: use another one"));
            }
            text => text.map_err(|e| wrong(&e))?,
        };
        let damaged = |what: &dyn std::fmt::Display| wrong(&format!("is damaged: {what}: use another backup"));
        let sealed: Sealed<'_> = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
        if sealed.crc32c != checksum(sealed.manifest.get()) {
            return Err(damaged(&"its checksum does not match"));
        }
        // The format first: a newer one may have other fields.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(sealed.manifest.get()).map_err(|e| damaged(&e))?;
        if format > FORMAT {
            return Err(wrong(&format!("format {format} needs a newer tally")));
        }
        let manifest: Self = serde_json::from_str(sealed.manifest.get()).map_err(|e| damaged(&e))?;
        match manifest.files.iter().find(|file| ![LOG_FILE, DATABASE_FILE].contains(&file.path.as_str())) {
            Some(file) => Err(damaged(&format!("it lists `{}`, which no backup has", file.path))),
            None if manifest.file(LOG_FILE).is_none() => Err(damaged(&"it lists no log")),
            None => Ok(manifest),
        }
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let logs = vec![Identity { application: "tally".into(), log_id: "6f1c2ab001020304".into() }];
        let ends = [("user-actions".to_owned(), vec![5, 0, 1 << 40])].into();
        let entry = |path: &str| BackedUpFile { path: path.into(), size_bytes: 4_096, crc32c: "0a0b0c0d".into() };
        let files = vec![entry(LOG_FILE), entry(DATABASE_FILE)];
        let release = "0.1.0".to_owned();
        Manifest { release, files, ..Manifest::new("2026-11-21T08:00:00.000Z".into(), logs, ends) }
    }

    /// What has been written once must stay readable.
    #[test]
    fn a_manifest_is_as_it_always_was() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        let golden = concat!(
            r#"{"crc32c":"CRC","manifest":{"format":1,"release":"0.1.0","taken_at":"2026-11-21T08:00:00.000Z","#,
            r#""logs":[{"application":"tally","log_id":"6f1c2ab001020304"}],"ends":{"user-actions":[5,0,1099511627776]},"#,
            r#""files":[{"path":"log/data.mdb","size_bytes":4096,"crc32c":"0a0b0c0d"},"#,
            r#"{"path":"tally.db","size_bytes":4096,"crc32c":"0a0b0c0d"}]}}"#,
            "\n"
        );
        let text = fs::read_to_string(dir.path().join(MANIFEST)).unwrap();
        let crc = &text[11..19];
        assert_eq!(text, golden.replace("CRC", crc));
        assert_eq!(Manifest::read(dir.path()), Ok(manifest()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        let path = dir.path().join(MANIFEST);
        let bytes = fs::read(&path).unwrap();
        // All but the newline at the end.
        for bit in 0..(bytes.len() - 1) * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            let refused = Manifest::read(dir.path());
            assert!(refused.is_err(), "bit {bit}: {}", String::from_utf8_lossy(&damaged));
        }
    }

    #[test]
    fn what_this_release_cannot_restore_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |manifest: &Manifest| {
            manifest.write(dir.path()).unwrap();
            Manifest::read(dir.path()).unwrap_err()
        };
        assert!(refused(&Manifest { format: 2, ..manifest() }).ends_with("format 2 needs a newer tally"));
        let mut foreign = manifest();
        foreign.files[1].path = "../tally.db".into();
        assert!(refused(&foreign).contains("it lists `../tally.db`, which no backup has"));
        foreign.files.clear();
        assert!(refused(&foreign).contains("it lists no log"));
    }
}
