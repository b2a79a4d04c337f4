//! A directory of manifests as a source: read again whenever a file changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use compile::{Finding, Resources, manifest::Manifests};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::pipeline::{Feed, Slices};

/// How often the directory is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// Directories within directories, at most; a link that points upwards ends here.
const DEPTH: usize = 16;

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
}

/// A name and a text for each file, in the order of the names.
pub type Files = Vec<(String, String)>;

/// Reads every `*.yaml` and `*.yml` below a directory, or one file.
///
/// # Errors
/// If a file or directory cannot be read. Text that is not UTF-8 is read with replacement
/// characters and becomes a finding of the manifest.
pub fn read(root: &Path) -> Result<Files, ReadError> {
    let mut files = Vec::new();
    let unreadable = |source| ReadError::Unreadable { path: root.to_owned(), source };
    if fs::metadata(root).map_err(unreadable)?.is_dir() {
        walk(root, 0, &mut files)?;
    } else {
        files.push(read_file(root)?);
    }
    files.sort();
    Ok(files)
}

fn walk(directory: &Path, depth: usize, files: &mut Files) -> Result<(), ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() {
            if !hidden && depth < DEPTH {
                walk(&path, depth + 1, files)?;
            }
        } else if !hidden && path.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            files.push(read_file(&path)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<(String, String), ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(unreadable)?;
    Ok((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()))
}

/// A directory that is followed.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Option<PathBuf>,
    resources: watch::Sender<Option<Arc<Resources>>>,
    slices: watch::Sender<Option<Arc<Slices>>>,
    manifests: watch::Sender<Option<Arc<Places>>>,
}

/// Where the objects of the newest resources stand in files, and what in the files is no object.
#[derive(Debug)]
pub struct Places {
    /// The resources that it speaks of.
    pub resources: Arc<Resources>,
    manifests: Manifests,
}

impl Places {
    /// `file:line:column` of a finding's field, if it is in a file.
    pub fn of(&self, finding: &Finding) -> Option<String> {
        let at = self.manifests.locate(&finding.field)?;
        Some(format!("{}:{}:{}", at.path, at.line, at.column))
    }

    /// What in the files is not readable.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.manifests.problems.iter().map(ToString::to_string)
    }
}

impl Directory {
    /// Reads a directory for the first time.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(root: &Path) -> Result<(Self, Files), ReadError> {
        let files = read(root)?;
        Ok((Self::new(Some(root.to_owned()), files.clone()), files))
    }

    /// Built-in manifests, which do not change.
    pub fn fixed(files: Files) -> Self {
        Self::new(None, files)
    }

    fn new(root: Option<PathBuf>, files: Files) -> Self {
        let new = Self {
            root,
            resources: watch::Sender::new(None),
            slices: watch::Sender::new(None),
            manifests: watch::Sender::new(None),
        };
        new.publish(files);
        new
    }

    /// What the pipeline reads.
    pub fn feed(&self) -> Feed {
        Feed { resources: self.resources.subscribe(), slices: self.slices.subscribe() }
    }

    /// Where objects stand in files.
    pub fn places(&self) -> watch::Receiver<Option<Arc<Places>>> {
        self.manifests.subscribe()
    }

    /// Looks for changes, for ever. A directory that cannot be read any more changes nothing.
    ///
    /// # Errors
    /// If reading panicked.
    pub async fn follow(self, mut last: Files) -> Result<(), tokio::task::JoinError> {
        let mut unreadable = false;
        loop {
            sleep(INTERVAL).await;
            let Some(root) = self.root.clone() else {
                std::future::pending::<()>().await;
                continue;
            };
            match spawn_blocking(move || read(&root)).await? {
                Ok(files) => {
                    unreadable = false;
                    if files != last {
                        last.clone_from(&files);
                        let this = self.clone();
                        spawn_blocking(move || this.publish(files)).await?;
                    }
                }
                Err(error) if !unreadable => {
                    unreadable = true;
                    tracing::warn!(%error, "Manifests cannot be read; the last ones stay in force");
                }
                Err(_) => {}
            }
        }
    }

    fn publish(&self, files: Files) {
        let mut manifests = compile::manifest::read(files);
        let resources = Arc::new(std::mem::take(&mut manifests.resources));
        let slices = Arc::new(std::mem::take(&mut manifests.endpoint_slices));
        let places = Places { resources: Arc::clone(&resources), manifests };
        // Places first: whoever sees the outcome of the resources looks for them here.
        self.manifests.send_replace(Some(Arc::new(places)));
        self.slices.send_replace(Some(slices));
        self.resources.send_replace(Some(resources));
    }
}
