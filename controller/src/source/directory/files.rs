//! The files of a directory: which there are, and their texts.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Directories within directories, at most; a link that points upwards ends here. What lies deeper
/// is an error: a policy that is left out in silence would open its routes.
pub(super) const DEPTH: usize = 16;
/// A file that was changed less than this before it was read may be changed again without a sign:
/// clocks of file systems tick, some of them every two seconds.
const YOUNG: Duration = Duration::from_secs(3);

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("cannot read `{path}`: {source}; name a directory of YAML files that may be read")]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody's policy may lie there.
    #[error(
        "`{0}` is more than {DEPTH} directories deep and cannot be read; move it up, or remove the link that leads back upwards"
    )]
    TooDeep(PathBuf),
}

/// A name and a text for each file, in the order of the names.
pub type Files = Vec<(String, String)>;

/// Reads every `*.yaml` and `*.yml` below a directory, or one file.
///
/// # Errors
/// If a file or directory cannot be read, or lies too deep. Text that is not UTF-8 is read with replacement
/// characters and becomes a finding of the manifest.
pub fn read(root: &Path) -> Result<Files, ReadError> {
    let texts = Texts::read(&Listing::of(root)?, &Texts::default())?;
    Ok(texts.iter().map(|(path, text)| (path, text.as_ref().to_owned())).collect())
}

/// What tells that a file may have another text: a write sets the times, and who sets them back
/// sets that of the last change of its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Device and inode.
    place: (u64, u64),
    /// In bytes.
    length: u64,
    /// When the text was changed, in seconds and nanoseconds.
    modified: (i64, i64),
    /// When anything of the inode was changed.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a text that was read at a time may have been changed after that without another stamp.
    fn is_young_at(&self, read: SystemTime) -> bool {
        let since = read.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = since.saturating_sub(YOUNG).as_secs();
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        self.modified.0 >= before || self.changed.0 >= before
    }
}

/// The files that there are, none of them opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    files: BTreeMap<PathBuf, Stamp>,
    /// The directories that were looked through.
    pub(super) directories: Vec<PathBuf>,
}

impl Listing {
    /// Looks through a directory, or at one file.
    pub(super) fn of(root: &Path) -> Result<Self, ReadError> {
        let mut listing = Self::default();
        let metadata = fs::metadata(root).map_err(|source| unreadable(root, source))?;
        if metadata.is_dir() {
            listing.walk(root, 0)?;
            listing.directories.sort();
        } else {
            listing.directories.extend(root.parent().map(Path::to_owned));
            listing.files.insert(root.to_owned(), Stamp::of(&metadata));
        }
        Ok(listing)
    }

    fn walk(&mut self, directory: &Path, depth: usize) -> Result<(), ReadError> {
        self.directories.push(directory.to_owned());
        let failed = |source| unreadable(directory, source);
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
            if name.starts_with(b".") {
                continue;
            }
            let is_manifest = path.extension().is_some_and(|it| it == "yaml" || it == "yml");
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // What is gone, or a link to nothing, is no directory. What cannot be looked at may
                // be a directory of policies.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_manifest => continue,
                Err(source) => return Err(unreadable(&path, source)),
            };
            if metadata.is_dir() {
                if depth >= DEPTH {
                    return Err(ReadError::TooDeep(path));
                }
                self.walk(&path, depth.saturating_add(1))?;
            } else if is_manifest {
                self.files.insert(path, Stamp::of(&metadata));
            }
        }
        Ok(())
    }
}

fn unreadable(path: &Path, source: io::Error) -> ReadError {
    ReadError::Unreadable { path: path.to_owned(), source }
}

/// A text, and how to see that it is another one.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    /// Whether the stamp alone does not tell.
    is_young: bool,
    text: Arc<str>,
}

/// The texts of files.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts(BTreeMap<PathBuf, Known>);

impl Texts {
    /// The text of every file of a listing. Those whose stamp is that of `before` are not read.
    pub(super) fn read(listing: &Listing, before: &Self) -> Result<Self, ReadError> {
        let texts = listing.files.iter().map(|(path, stamp)| {
            let before = before.0.get(path);
            let known = match before {
                Some(known) if known.stamp == *stamp && !known.is_young => known.clone(),
                _ => {
                    let text = before.map(|known| &known.text);
                    Known::read(path, text).map_err(|source| unreadable(path, source))?
                }
            };
            Ok((path.clone(), known))
        });
        Ok(Self(texts.collect::<Result<_, _>>()?))
    }

    /// Whether these are the files of a listing, and none of them can be another one by now.
    pub(super) fn are_certainly(&self, listing: &Listing) -> bool {
        self.are_of(listing) && self.0.values().all(|known| !known.is_young)
    }

    /// Whether the files of a listing had their stamps still when they were read.
    pub(super) fn are_of(&self, listing: &Listing) -> bool {
        let stamps = self.0.iter().map(|(path, known)| (path, &known.stamp));
        listing.files.iter().eq(stamps)
    }

    /// Whether all files have the names and texts of others.
    pub(super) fn equal(&self, others: &Self) -> bool {
        self.iter().eq(others.iter())
    }

    /// Names and texts, in the order of the names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, Arc<str>)> {
        self.0.iter().map(|(path, known)| (path.display().to_string(), Arc::clone(&known.text)))
    }
}

impl Known {
    /// Reads a file; a text that is the one before is not kept twice.
    fn read(path: &Path, before: Option<&Arc<str>>) -> io::Result<Self> {
        let now = SystemTime::now();
        let mut file = File::open(path)?;
        // Before its text: who writes in between leaves another stamp for the next listing.
        let stamp = Stamp::of(&file.metadata()?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = match before {
            Some(before) if **before == *text => Arc::clone(before),
            _ => text.into(),
        };
        Ok(Self { stamp, is_young: stamp.is_young_at(now), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_read_long_after_its_last_change_is_not_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, "a").unwrap();
        let listing = Listing::of(folder.path()).unwrap();
        let mut first = Texts::read(&listing, &Texts::default()).unwrap();
        assert!(first.are_of(&listing) && !first.are_certainly(&listing), "{first:?}");
        first.0.get_mut(&path).unwrap().is_young = false;
        assert!(first.are_certainly(&listing));
        // Nobody looks at what is in it.
        fs::write(&path, "bb").unwrap();
        let second = Texts::read(&listing, &first).unwrap();
        assert!(second.equal(&first));
        let third = Texts::read(&Listing::of(folder.path()).unwrap(), &first);
        assert_eq!(third.map(|texts| texts.equal(&first)).ok(), Some(false));
    }

    #[test]
    fn a_file_is_young_for_as_long_as_clocks_of_file_systems_tick() {
        let second = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let stamp = |modified, changed| Stamp {
            place: (0, 0),
            length: 0,
            modified: (modified, 0),
            changed: (changed, 0),
        };
        assert!(!stamp(990, 990).is_young_at(second(1000)));
        assert!(stamp(998, 998).is_young_at(second(1000)));
        // Who sets the time of the text back does not set that of the inode back.
        assert!(stamp(1, 998).is_young_at(second(1000)));
        // A clock that is ahead tells nothing.
        assert!(stamp(2000, 1).is_young_at(second(1000)));
    }
}
