//! Kubernetes' own programs: given by the environment, or built once per machine from source.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// The folder with the programs, if it isn't ours to build. The name is the one that other
/// projects' test environments use.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// What has to be in the folder.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Where the sources' versions are pinned.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// The folder with etcd, kube-apiserver and kubectl.
///
/// [`VARIABLE`] wins. Otherwise they are built into `$XDG_CACHE_HOME/whygate/kubernetes-VERSION/bin`
/// (`~/.cache` without the variable), once; a second process that wants them meanwhile waits.
///
/// # Errors
/// There are none and they can't be built; the sentence names the remedies.
pub fn programs() -> anyhow::Result<PathBuf> {
    if let Some(folder) = env::var_os(VARIABLE) {
        let folder = PathBuf::from(folder);
        let missing = PROGRAMS.iter().find(|name| !folder.join(name).is_file());
        return match missing {
            None => Ok(folder),
            Some(name) => bail!("{VARIABLE} is `{}`, and `{name}` isn't in it", folder.display()),
        };
    }
    let version = pinned_version()?;
    let home = cache_home()?.join(format!("whygate/kubernetes-{version}"));
    let folder = home.join("bin");
    if complete(&folder) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let _lock = lock(&home)?;
    // Another process may have built them while this one waited for the lock.
    if !complete(&folder) {
        build(&folder, &version)?;
    }
    Ok(folder)
}

fn complete(folder: &Path) -> bool {
    PROGRAMS.iter().all(|name| folder.join(name).is_file())
}

fn cache_home() -> anyhow::Result<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where built programs may be kept")
}

/// The version of Kubernetes in the module's requirements, as `v1.2.3`.
fn pinned_version() -> anyhow::Result<String> {
    let path = Path::new(MODULE).join("go.mod");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let version = text.lines().find_map(|line| {
        line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes ")
    });
    version
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .with_context(|| format!("`{}` requires no k8s.io/kubernetes", path.display()))
}

/// Takes the build lock of this version; the system gives it back when the file is closed.
fn lock(home: &Path) -> anyhow::Result<File> {
    let path = home.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    if file.try_lock().is_err() {
        crate::say("Another process is building Kubernetes' programs: waiting for it.");
        file.lock().with_context(|| format!("cannot lock `{}`", path.display()))?;
    }
    Ok(file)
}

/// Builds the one program that is all of them, and links their names to it.
fn build(folder: &Path, version: &str) -> anyhow::Result<()> {
    let program = folder.join("kube");
    if !program.is_file() {
        let part = folder.join("kube.part");
        compile(&part, version, folder)?;
        fs::rename(&part, &program).context("cannot put the built program into its place")?;
    }
    for name in PROGRAMS {
        let link = folder.join(name);
        if !link.exists() {
            symlink("kube", &link).with_context(|| format!("cannot link `{}`", link.display()))?;
        }
    }
    Ok(())
}

fn compile(target: &Path, version: &str, folder: &Path) -> anyhow::Result<()> {
    let go = Command::new("go").arg("version").output();
    ensure!(
        go.is_ok_and(|output| output.status.success()),
        "these tests run a real Kubernetes API server: install Go 1.26 or newer, from which it is \
         built once, or set {VARIABLE} to a folder with etcd, kube-apiserver and kubectl"
    );
    crate::say(&format!(
        "Building Kubernetes {version} (API server, etcd, kubectl) from source into {}, because \
         these tests run the real one. Once per machine; about eleven minutes on two cores, some \
         seconds if Go has built it before.",
        folder.display()
    ));
    let status = Command::new("go")
        .args(["build", "-ldflags", &stamp(version)?, "-o"])
        .arg(target)
        .arg("./kube")
        .current_dir(MODULE)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-trimpath -buildvcs=false")
        .status()
        .context("cannot run `go`")?;
    ensure!(
        status.success(),
        "`go build` in e2e/cluster failed ({status}); the first build needs Go's module proxy, or \
         set {VARIABLE} to a folder with etcd, kube-apiserver and kubectl"
    );
    crate::say("Kubernetes' programs are built.");
    Ok(())
}

/// The linker flags that tell the programs their version: without them the API server calls itself
/// `v0.0.0-master`, and clients that compare versions take it for an ancient one.
fn stamp(version: &str) -> anyhow::Result<String> {
    use std::fmt::Write as _;

    let mut numbers = version.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("`{version}` is not a version of Kubernetes");
    };
    let mut flags = String::from("-s -w");
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        write!(
            flags,
            " -X {package}.gitVersion={version} -X {package}.gitTreeState=clean \
             -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        )?;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_in_go_mod_is_the_one_that_is_stamped() {
        let version = pinned_version().unwrap();
        assert!(version.starts_with("v1."), "{version}");
        assert!(stamp(&version).unwrap().contains(&format!(".gitVersion={version} ")));
    }
}
