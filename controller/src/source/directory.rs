//! A directory of manifests as a source: read again whenever a file changes.

mod bell;
pub(crate) mod endpoints;
mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use compile::{
    Finding, Resources,
    manifest::{self, Manifests},
};
use decision::refs::ResourceRef;
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep, timeout},
};

pub use self::files::{Files, ReadError, read};
use self::{
    bell::Bell,
    files::{Listing, Texts},
};
use crate::pipeline::{Feed, Slices};

/// How often the directory is looked at if nobody tells of changes.
const INTERVAL: Duration = Duration::from_millis(250);
/// Of looking at a very large directory: one part of the time in so many.
const SHARE: u32 = 50;
/// Of looking where something was told and nothing had changed: one part of the time in so many.
/// Many write a new file beside the old one before they put it in its place: what is told first is
/// for nothing, and the change comes at once after it.
const SHARE_FOR_NOTHING: u32 = 10;
/// How long files must stay the same before they count: an editor empties a file before it writes
/// it, and a policy that seems to be gone would open its routes.
const CALM: Duration = Duration::from_millis(100);
/// So often calm is waited for; somebody may write without a pause.
const PATIENCE: usize = 4;

/// A directory that is followed.
#[derive(Clone, Debug)]
pub struct Directory {
    root: Option<PathBuf>,
    resources: watch::Sender<Option<Arc<Resources>>>,
    slices: watch::Sender<Option<Arc<Slices>>>,
    manifests: watch::Sender<Option<Arc<Places>>>,
    /// The policies of each file when it was last read whole.
    held: Arc<Mutex<BTreeMap<Arc<str>, BTreeSet<ResourceRef>>>>,
    /// The files as they were read last.
    texts: Arc<Mutex<Arc<Texts>>>,
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
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let new = Self::new(Some(root.to_owned()));
        let texts = Texts::read(&Listing::of(root)?, &Texts::default())?;
        new.take(texts);
        Ok(new)
    }

    /// Built-in manifests, which do not change.
    pub fn fixed(files: Files) -> Self {
        let new = Self::new(None);
        new.publish(files.into_iter().map(|(path, text)| (path, text.into())));
        new
    }

    fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            resources: watch::Sender::new(None),
            slices: watch::Sender::new(None),
            manifests: watch::Sender::new(None),
            held: Arc::default(),
            texts: Arc::default(),
        }
    }

    fn texts(&self) -> MutexGuard<'_, Arc<Texts>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub async fn follow(self) -> Result<(), JoinError> {
        let Some(root) = self.root.clone() else { return std::future::pending().await };
        let bell = Bell::new();
        let mut unreadable = false;
        let mut rang = false;
        loop {
            let begun = Instant::now();
            let looked = look(&root, &bell).await?;
            let took = begun.elapsed();
            let changed = match looked {
                Ok(listing) => self.changed(&root, &bell, listing).await?,
                Err(error) => Err(error),
            };
            if let Err(error) = &changed
                && !unreadable
            {
                tracing::warn!(%error, "Manifests cannot be read; the last ones stay in force");
            }
            unreadable = changed.is_err();
            if let Ok(Some(texts)) = changed {
                let this = self.clone();
                spawn_blocking(move || this.take(texts)).await?;
            } else if rang {
                // For nothing: a log in the same directory must not keep us looking.
                sleep(took * SHARE_FOR_NOTHING).await;
            }
            rang = timeout(INTERVAL.max(took * SHARE), bell.rung()).await.is_ok();
        }
    }

    /// The files, if they are others than before and nobody is writing them just now.
    async fn changed(
        &self,
        root: &Path,
        bell: &Bell,
        mut listing: Listing,
    ) -> Result<Result<Option<Texts>, ReadError>, JoinError> {
        let before = Arc::clone(&self.texts());
        if before.are_certainly(&listing) {
            return Ok(Ok(None));
        }
        // Files that were written lately are read again, but nobody has to wait for calm.
        let mut calm = before.are_of(&listing);
        for _ in 0..PATIENCE {
            if !calm {
                sleep(CALM).await;
                match look(root, bell).await? {
                    Ok(again) if again == listing => {}
                    Ok(again) => {
                        listing = again;
                        continue;
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
            let texts = match texts(&listing, &before).await? {
                Ok(texts) => texts,
                Err(error) => return Ok(Err(error)),
            };
            let differ = !texts.equal(&before);
            if !differ && texts.are_of(&listing) {
                *self.texts() = Arc::new(texts);
                return Ok(Ok(None));
            }
            if !calm && texts.are_of(&listing) {
                return Ok(Ok(Some(texts)));
            }
            calm = false;
        }
        // Somebody writes without a pause.
        let texts = texts(&listing, &before).await?;
        Ok(texts.map(|texts| Some(texts).filter(|texts| !texts.equal(&before))))
    }

    fn take(&self, texts: Texts) {
        self.publish(texts.iter());
        *self.texts() = Arc::new(texts);
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

    fn publish(&self, files: impl Iterator<Item = (String, Arc<str>)>) {
        let files: Vec<_> = files.collect();
        let present: BTreeSet<String> = files.iter().map(|(path, _)| path.clone()).collect();
        let before = self.manifests.borrow().clone();
        let mut manifests = match &before {
            Some(before) => manifest::read_again(files, &before.manifests),
            None => manifest::read_again(files, &Manifests::default()),
        };
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

/// The files that there are, and what was told of changes before that is forgotten.
async fn look(root: &Path, bell: &Bell) -> Result<Result<Listing, ReadError>, JoinError> {
    bell.hush();
    let root = root.to_owned();
    let listing = spawn_blocking(move || Listing::of(&root)).await?;
    if let Ok(listing) = &listing {
        bell.watch(&listing.directories);
    }
    Ok(listing)
}

async fn texts(
    listing: &Listing,
    before: &Arc<Texts>,
) -> Result<Result<Texts, ReadError>, JoinError> {
    let (listing, before) = (listing.clone(), Arc::clone(before));
    spawn_blocking(move || Texts::read(&listing, &before)).await
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::{files::DEPTH, *};

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
        let directory = Directory::open(&folder.0).unwrap();
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
        let directory = Directory::open(&folder.0).unwrap();
        let mut resources = directory.feed().resources;
        let count = |resources: &mut watch::Receiver<Option<Arc<Resources>>>| {
            resources.borrow_and_update().as_ref().unwrap().access_policies.len()
        };
        assert_eq!(count(&mut resources), 1);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(directory.follow());
        fs::write(folder.0.join("b.yaml"), POLICY.replace("one", "two")).unwrap();
        resources.changed().await.unwrap();
        assert_eq!(count(&mut resources), 2);
        fs::remove_dir_all(&folder.0).unwrap();
        for _ in 0..10 {
            sleep(INTERVAL).await;
        }
        assert!(!resources.has_changed().unwrap());
    }

    fn texts_of(text: &str) -> impl Iterator<Item = (String, Arc<str>)> {
        [("a.yaml".to_owned(), text.into())].into_iter()
    }

    /// What is lost, and what is told, when a file that held a policy has another text.
    fn after(text: &str) -> (usize, Vec<String>) {
        let directory = Directory::fixed(Vec::new());
        // The last reading knows as much as the one before.
        for text in [POLICY, text, text] {
            directory.publish(texts_of(text));
        }
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
        for count in [0, 1] {
            directory.publish(texts_of("").take(count));
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
