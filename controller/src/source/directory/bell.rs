//! What the kernel tells of changes in directories, so that nobody has to look again and again.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

/// Changes that may be of files with manifests.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE);

/// Bytes that are read at once; an event with its name has at most 272.
const EVENTS: usize = 4096;

/// Rings when something in a directory changes: inotify(7). It says nothing of file systems of other
/// machines and of what links lead to, and there may be none left: who waits for it looks for himself now and then.
#[derive(Debug)]
pub(super) struct Bell(Option<AsyncFd<OwnedFd>>);

impl Bell {
    /// A bell for no directory yet.
    #[expect(
        deprecated,
        reason = "the successor is unsafe for the sake of other types; an `OwnedFd` is the same descriptor until it is dropped"
    )]
    pub(super) fn new() -> Self {
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let made = made.map_err(io::Error::from);
        let bell = made.and_then(|made| AsyncFd::with_interest(made, Interest::READABLE));
        if let Err(error) = &bell {
            tracing::debug!(%error, "Changes of files are not told; they are looked for");
        }
        Self(bell.ok())
    }

    /// Rings for these directories, too. One that cannot be watched is looked at now and then.
    pub(super) fn watch(&self, directories: &[PathBuf]) {
        let Some(bell) = &self.0 else { return };
        for directory in directories {
            // The same directory twice is one watch.
            if let Err(error) = inotify::add_watch(bell.get_ref(), directory, CHANGES) {
                tracing::debug!(%error, path = %directory.display(), "Changes are not told");
            }
        }
    }

    /// Forgets what it has rung for.
    pub(super) fn hush(&self) {
        let Some(bell) = &self.0 else { return };
        while rustix::io::read(bell.get_ref(), &mut [0; EVENTS]).is_ok() {}
    }

    /// Waits until it rings; for ever if there is none.
    pub(super) async fn rung(&self) {
        let Some(bell) = &self.0 else { return std::future::pending().await };
        while let Ok(mut ready) = bell.readable().await {
            match rustix::io::read(bell.get_ref(), &mut [0; EVENTS]) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Ok(_) => return,
                Err(_) => break,
            }
        }
        std::future::pending::<()>().await;
    }
}
