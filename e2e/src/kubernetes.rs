//! Kubernetes' own programs: given by the environment, or built once per machine from source.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// The folder with the programs, if it isn't ours to build. The name is the one that other
/// projects' test environments use.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What has to be in the folder.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// What builds them, for these tests and for the cluster with a node.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/build");

/// The folder with etcd, kube-apiserver and kubectl.
///
/// [`VARIABLE`] wins. Otherwise `e2e/cluster/build` says where they are, and builds them into
/// `$XDG_CACHE_HOME/whygate` (`~/.cache` without the variable) if they are not there; a second
/// process that wants them meanwhile waits.
///
/// # Errors
/// There are none and they can't be built; the sentence names the remedies.
pub fn programs() -> anyhow::Result<PathBuf> {
    let Some(folder) = env::var_os(VARIABLE) else {
        return built();
    };
    let folder = PathBuf::from(folder);
    match missing(&folder) {
        None => Ok(folder),
        Some(name) => bail!("{VARIABLE} is `{}`, and `{name}` isn't in it", folder.display()),
    }
}

fn built() -> anyhow::Result<PathBuf> {
    let folder = build("kubernetes").with_context(|| {
        format!(
            "these tests run a real Kubernetes API server: do what `e2e/cluster/build` says, or \
             set {VARIABLE} to a folder with etcd, kube-apiserver and kubectl"
        )
    })?;
    match missing(&folder) {
        None => Ok(folder),
        Some(name) => bail!("`{}` lacks `{name}`: remove that folder", folder.display()),
    }
}

/// The program helm, built in the same way.
///
/// # Errors
/// It can't be built.
pub fn helm() -> anyhow::Result<PathBuf> {
    build("helm").map(|folder| folder.join("helm"))
}

/// The folder of something that `e2e/cluster/build` builds.
fn build(what: &str) -> anyhow::Result<PathBuf> {
    let failed = || format!("`e2e/cluster/build {what}` failed");
    let output =
        Command::new(BUILD).arg(what).stderr(Stdio::inherit()).output().with_context(failed)?;
    ensure!(output.status.success(), failed());
    let folder = String::from_utf8(output.stdout).context("the folder's name is not text")?;
    Ok(PathBuf::from(folder.trim_end()))
}

fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|name| !folder.join(name).is_file())
}
