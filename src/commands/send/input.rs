//! Reading: a file or standard input in chunks, and chunks cut into lines.

use crate::commands::Failure;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that may wait to be cut.
const CHUNKS_WAITING: usize = 4;
/// No ingest API takes a longer body, and so no longer line.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Where lines come from.
pub struct Input {
    name: String,
    source: Box<dyn Read + Send>,
    size_bytes: Option<u64>,
}

impl Input {
    /// `-` is standard input.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self { name: "standard input".to_owned(), source: Box::new(io::stdin()), size_bytes: None });
        }
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, _)) if metadata.is_dir() => Err(Failure::usage(format!("{name}: is a directory"))),
            Ok((metadata, file)) => {
                // The size of a pipe is unknown.
                let size_bytes = metadata.is_file().then_some(metadata.len());
                Ok(Self { name, source: Box::new(file), size_bytes })
            }
            Err(error) => Err(Failure::usage(format!("{name}: {error}"))),
        }
    }

    /// The size of the input, if known.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// Reads on a thread of its own, so that the splitting thread also notices a pause of the input. The thread ends at
    /// the end, after an error, or when the chunks are no longer taken.
    pub fn read(self) -> Receiver<Result<Vec<u8>, Failure>> {
        let (sender, chunks) = sync_channel(CHUNKS_WAITING);
        std::thread::spawn(move || {
            let Self { name, mut source, .. } = self;
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let outcome = match source.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(len) => {
                        chunk.truncate(len);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(Failure::no(format!("{name}: {error}"))),
                };
                let failed = outcome.is_err();
                if sender.send(outcome).is_err() || failed {
                    return;
                }
            }
        });
        chunks
    }
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// As it is.
    Whole(&'a [u8]),
    /// Longer than [`LINE_BYTES_MAX`]: not kept.
    TooLong,
}

/// Cuts chunks into lines and counts them.
#[derive(Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    too_long: bool,
    number: u64,
}

impl Lines {
    /// Gives out every line that ends within this chunk, with its number from 1.
    pub fn cut<E>(&mut self, mut chunk: &[u8], each: &mut impl FnMut(u64, Line<'_>) -> Result<(), E>) -> Result<(), E> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.begun.is_empty() && !self.too_long && line.len() <= LINE_BYTES_MAX {
                self.number += 1;
                each(self.number, Line::Whole(line))?;
            } else {
                self.extend(line);
                self.finish(each)?;
            }
        }
        self.extend(chunk);
        Ok(())
    }

    /// The last line may lack its end.
    pub fn finish<E>(&mut self, each: &mut impl FnMut(u64, Line<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.begun.is_empty() && !self.too_long {
            return Ok(());
        }
        self.number += 1;
        let (line, too_long) = (std::mem::take(&mut self.begun), std::mem::take(&mut self.too_long));
        each(self.number, if too_long { Line::TooLong } else { Line::Whole(&line) })
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.too_long || self.begun.len() + bytes.len() > LINE_BYTES_MAX {
            self.too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(u64, Option<Vec<u8>>)> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |number, line: Line<'_>| {
            found.push((
                number,
                match line {
                    Line::Whole(line) => Some(line.to_vec()),
                    Line::TooLong => None,
                },
            ));
            Ok::<_, ()>(())
        };
        chunks.iter().for_each(|chunk| lines.cut(chunk, &mut each).unwrap());
        lines.finish(&mut each).unwrap();
        found
    }

    #[test]
    fn long_lines_are_told_and_not_kept() {
        let long = vec![b'x'; LINE_BYTES_MAX];
        let exact = cut(&[&long, b"\nb"]);
        assert_eq!(exact, [(1, Some(long.clone())), (2, Some(b"b".to_vec()))]);
        assert_eq!(cut(&[b"a\n", &long, b"y\nb\n"]), [(1, Some(b"a".to_vec())), (2, None), (3, Some(b"b".to_vec())),]);
        let whole: Vec<u8> = [long.as_slice(), b"y\nb\n"].concat();
        assert_eq!(cut(&[&whole]), [(1, None), (2, Some(b"b".to_vec()))]);
        assert_eq!(cut(&[&long, &long, &long]), [(1, None)]);
    }

    proptest! {
        #[test]
        fn chunks_leave_no_trace(text in "[ab\n]{0,30}", at in 0usize..31, then in 0usize..31) {
            let bytes = text.as_bytes();
            let (first, rest) = bytes.split_at(at.min(bytes.len()));
            let (second, third) = rest.split_at(then.min(rest.len()));
            let expected: Vec<_> = text.lines().map(|line| Some(line.as_bytes().to_vec())).collect();
            let found = cut(&[first, second, third]);
            prop_assert!(found.iter().map(|(number, _)| *number).eq(1..=expected.len() as u64));
            prop_assert_eq!(found.into_iter().map(|(_, line)| line).collect::<Vec<_>>(), expected);
        }
    }
}
