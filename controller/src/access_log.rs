//! The access log: a thread of its own formats and writes what the data threads tell, and only it
//! waits when nobody reads the lines or the disk is full.

mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use dataplane::AccessReader;

use self::line::{Form, append};
use crate::{
    following::Following,
    settings::{AccessLogFlags, AccessLogForm},
};

/// How many bytes of lines are written at once.
const BLOCK: usize = 64 * 1024;

/// Why there can be no access log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file.
    #[error(
        "--access-log-file `{path}` cannot be appended to: {source}; name a file in a folder that may be written"
    )]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Standard output.
    #[error("--access-log: there is no standard output: {0}; name a file with --access-log-file")]
    Output(io::Error),
}

/// Where lines go, and what they look like.
#[derive(Debug)]
pub struct Destination {
    file: File,
    form: Form,
}

impl Destination {
    /// Opens what the flags name; nothing if there is to be no access log.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub fn open(flags: &AccessLogFlags) -> Result<Option<Self>, OpenError> {
        let queries = flags.access_log_queries;
        let form = match flags.access_log {
            AccessLogForm::Off => return Ok(None),
            AccessLogForm::Json => Form { is_json: true, queries },
            AccessLogForm::Text => Form { is_json: false, queries },
        };
        let file = flags.access_log_file.as_deref().map_or_else(output, appended)?;
        Ok(Some(Self { file, form }))
    }

    /// Begins to write.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn follow(self, reader: AccessReader) -> io::Result<Following> {
        Following::start("access-log", move || self.write(reader))
    }

    fn write(self, mut reader: AccessReader) {
        let Self { file, form } = self;
        let mut lines = Lines { file, waiting: Vec::new(), is_torn: false, fails: false };
        let mut dropped = 0;
        let mut is_open = true;
        while is_open {
            is_open = reader.read(|access| {
                append(&mut lines.waiting, access, form);
                if lines.waiting.len() >= BLOCK {
                    dropped += lines.write();
                }
            });
            dropped += lines.write();
            reader.dropped(std::mem::take(&mut dropped));
        }
    }
}

/// Standard output itself, apart from the lock that the rest of the program takes for it: a reader
/// that stops keeps nobody else waiting.
fn output() -> Result<File, OpenError> {
    let output = io::stdout();
    output.as_fd().try_clone_to_owned().map(File::from).map_err(OpenError::Output)
}

fn appended(path: &Path) -> Result<File, OpenError> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|source| OpenError::File { path: path.to_owned(), source })
}

struct Lines {
    file: File,
    waiting: Vec<u8>,
    /// The last line was written in part.
    is_torn: bool,
    fails: bool,
}

impl Lines {
    /// Writes what is waiting, and gives how many lines could not be.
    fn write(&mut self) -> u64 {
        if self.waiting.is_empty() {
            return 0;
        }
        let mut failed = if self.is_torn { self.file.write_all(b"\n").err() } else { None };
        let mut rest = self.waiting.as_slice();
        while !rest.is_empty() && failed.is_none() {
            match self.file.write(rest) {
                Ok(0) => failed = Some(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => failed = Some(error),
            }
        }
        let written = self.waiting.len() - rest.len();
        let last_byte = written.checked_sub(1).and_then(|last| self.waiting.get(last));
        self.is_torn = last_byte.map_or(self.is_torn && failed.is_some(), |last| *last != b'\n');
        let dropped = rest.split_inclusive(|byte| *byte == b'\n').count();
        self.waiting.clear();
        self.say(failed.as_ref());
        u64::try_from(dropped).unwrap_or(u64::MAX)
    }

    /// Says when writing begins to fail, and when it no longer does.
    fn say(&mut self, failed: Option<&io::Error>) {
        match failed {
            Some(error) if !self.fails => {
                tracing::warn!(%error, "The access log cannot be written");
            }
            None if self.fails => tracing::info!("The access log is written again"),
            Some(_) | None => {}
        }
        self.fails = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: File, text: &str) -> Lines {
        Lines { file, waiting: text.as_bytes().to_vec(), is_torn: false, fails: false }
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_have_no_room() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut lines = lines(full, "one\ntwo\n");
        assert_eq!((lines.write(), lines.fails, lines.is_torn), (2, true, false));
        lines.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
        lines.waiting.extend_from_slice(b"three\n");
        assert_eq!((lines.write(), lines.fails), (0, false));
    }

    #[test]
    fn a_line_behind_one_that_was_cut_begins_anew() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut lines = lines(File::from(std::os::fd::OwnedFd::from(writer)), "whole\n");
        lines.is_torn = true;
        assert_eq!((lines.write(), lines.is_torn), (0, false));
        drop(lines);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "\nwhole\n");
    }
}
