//! A directory of manifests as a source: read again whenever a file changes.

pub(crate) mod endpoints;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use compile::{Finding, Resources, manifest::Manifests};
use decision::refs::ResourceRef;
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use crate::pipeline::{Feed, Slices};

/// How often the directory is looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long files must stay the same before they count: an editor empties a file before it writes
/// it, and a policy that seems to be gone would open its routes.
const CALM: Duration = Duration::from_millis(50);
/// So often calm is waited for; somebody may write without a pause.
const PATIENCE: usize = 8;
/// Directories within directories, at most; a link that points upwards ends here. What lies deeper
/// is an error: a policy that is left out in silence would open its routes.
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
        if hidden {
            continue;
        }
        if is_directory(&path)? {
            if depth >= DEPTH {
                return Err(ReadError::TooDeep(path));
            }
            walk(&path, depth + 1, files)?;
        } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            files.push(read_file(&path)?);
        }
    }
    Ok(())
}

/// What cannot be looked at may be a directory of policies. Only what is gone, or a link to
/// nothing, is none.
fn is_directory(path: &Path) -> Result<bool, ReadError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ReadError::Unreadable { path: path.to_owned(), source }),
    }
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
    /// The policies of each file when it was last read whole.
    held: Arc<Mutex<BTreeMap<Arc<str>, BTreeSet<ResourceRef>>>>,
}

/// Where the objects of the newest resources stand in files, and what in the files is no object.
#[derive(Debug)]
pub struct Places {
    /// The resources that it speaks of.
    pub resources: Arc<Resources>,
    /// The endpoints beside them.
    pub slices: Arc<Slices>,
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
            held: Arc::default(),
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
    pub async fn follow(self, mut last: Files) -> Result<(), JoinError> {
        let Some(root) = self.root.clone() else { return std::future::pending().await };
        let mut unreadable = false;
        loop {
            sleep(INTERVAL).await;
            match changed(&root, &last).await? {
                Ok(Some(files)) => {
                    unreadable = false;
                    last.clone_from(&files);
                    let this = self.clone();
                    spawn_blocking(move || this.publish(files)).await?;
                }
                Ok(None) => unreadable = false,
                Err(error) => {
                    if !unreadable {
                        tracing::warn!(%error, "Manifests cannot be read; the last ones stay in force");
                    }
                    unreadable = true;
                }
            }
        }
    }

    /// A file that held a policy and holds nothing now closes what the policy protected. One that is
    /// deleted is forgotten.
    fn remember(&self, present: &BTreeSet<String>, manifests: &mut Manifests) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|path, _| present.contains(&**path));
        for (path, policies) in &*held {
            manifests.remember(path, policies);
        }
        held.extend(manifests.policies());
    }

    fn publish(&self, files: Files) {
        let present: BTreeSet<String> = files.iter().map(|(path, _)| path.clone()).collect();
        let mut manifests = compile::manifest::read(files);
        self.remember(&present, &mut manifests);
        let resources = Arc::new(std::mem::take(&mut manifests.resources));
        let slices = Arc::new(std::mem::take(&mut manifests.endpoint_slices));
        let places =
            Places { resources: Arc::clone(&resources), slices: Arc::clone(&slices), manifests };
        // Places first: whoever sees the outcome of the resources looks for them here.
        self.manifests.send_replace(Some(Arc::new(places)));
        self.slices.send_replace(Some(slices));
        self.resources.send_replace(Some(resources));
    }
}

/// The files, if they are others than before and nobody is writing them just now.
async fn changed(root: &Path, last: &Files) -> Result<Result<Option<Files>, ReadError>, JoinError> {
    let read_once = || {
        let root = root.to_owned();
        spawn_blocking(move || read(&root))
    };
    let mut files = match read_once().await? {
        Ok(files) if files == *last => return Ok(Ok(None)),
        Ok(files) => files,
        Err(error) => return Ok(Err(error)),
    };
    for _ in 0..PATIENCE {
        sleep(CALM).await;
        match read_once().await? {
            Ok(again) if again == files => break,
            Ok(again) => files = again,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Some(files).filter(|files| files != last)))
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    const POLICY: &str = "apiVersion: whygate.dev/v1alpha1\nkind: AccessPolicy\n\
                          metadata: { name: one, namespace: shop }\n";

    /// A directory of this test alone.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("whygate-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("below/.hidden")).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // A folder that is left behind harms nobody.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn manifests_are_read_below_directories_and_nothing_else_is() {
        let folder = Folder::new("read");
        for name in ["a.yaml", "below/b.yml", "c.txt", ".d.yaml", "below/.hidden/e.yaml"] {
            fs::write(folder.0.join(name), POLICY).unwrap();
        }
        let files = read(&folder.0).unwrap();
        let names: Vec<_> = files.iter().map(|(path, _)| path.rsplit('/').next()).collect();
        assert_eq!(names, [Some("a.yaml"), Some("b.yml")]);
    }

    #[test]
    fn a_directory_that_lies_too_deep_is_an_error_and_not_left_out() {
        let folder = Folder::new("deep");
        let mut path = folder.0.clone();
        for _ in 0..DEPTH {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a.yaml"), POLICY).unwrap();
        assert_eq!(read(&folder.0).unwrap().len(), 1);
        let (directory, _) = Directory::open(&folder.0).unwrap();
        fs::create_dir(path.join("e")).unwrap();
        let error = Directory::open(&folder.0).unwrap_err().to_string();
        assert!(error.contains("16 directories deep") && error.contains("d/e`"), "{error}");
        // Whoever follows keeps what was there.
        assert!(directory.feed().resources.borrow().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_lost_directory_changes_nothing() {
        let folder = Folder::new("follow");
        fs::write(folder.0.join("a.yaml"), POLICY).unwrap();
        let (directory, files) = Directory::open(&folder.0).unwrap();
        let mut resources = directory.feed().resources;
        let count = |resources: &mut watch::Receiver<Option<Arc<Resources>>>| {
            resources.borrow_and_update().as_ref().unwrap().access_policies.len()
        };
        assert_eq!(count(&mut resources), 1);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(directory.follow(files));
        fs::write(folder.0.join("b.yaml"), POLICY.replace("one", "two")).unwrap();
        resources.changed().await.unwrap();
        assert_eq!(count(&mut resources), 2);
        fs::remove_dir_all(&folder.0).unwrap();
        for _ in 0..10 {
            sleep(INTERVAL).await;
        }
        assert!(!resources.has_changed().unwrap());
    }

    /// What is lost, and what is told, when a file that held a policy has another text.
    fn after(text: &str) -> (usize, Vec<String>) {
        let file = |text: &str| vec![("a.yaml".to_owned(), text.to_owned())];
        let directory = Directory::fixed(file(POLICY));
        directory.publish(file(text));
        // The next reading knows as much.
        directory.publish(file(text));
        let places = directory.places().borrow().clone().unwrap();
        let lost = places.resources.lost.iter().filter(|lost| lost.namespace == "shop");
        (lost.count(), places.problems().collect())
    }

    #[test]
    fn a_file_that_held_a_policy_and_holds_nothing_now_keeps_its_namespace_closed() {
        let (lost, told) = after("");
        assert_eq!((lost, told.len()), (1, 1));
        assert!(told[0].contains("held AccessPolicy shop/one before"), "{told:?}");
        for text in ["# nothing\n", "values: 1\n", "a: [\n", "\0\0\0\0", "---\n---\n"] {
            let (lost, told) = after(text);
            assert!(lost == 1 && !told.is_empty(), "{text}: {told:?}");
        }
        for text in [POLICY, "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: a }\n"] {
            let (lost, told) = after(text);
            assert_eq!((lost, told), (0, Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_deleted_is_forgotten() {
        let directory = Directory::fixed(vec![("a.yaml".to_owned(), POLICY.to_owned())]);
        for files in [Vec::new(), vec![("a.yaml".to_owned(), String::new())]] {
            directory.publish(files);
            let places = directory.places().borrow().clone().unwrap();
            assert_eq!((places.resources.lost.len(), places.problems().count()), (0, 0));
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
