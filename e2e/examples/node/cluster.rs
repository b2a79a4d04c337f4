//! The cluster as a folder: started, left and removed by `e2e/cluster/ring-b`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use e2e::say;

const RING_B: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/ring-b");

/// A running cluster. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct NodeCluster {
    folder: tempfile::TempDir,
}

impl NodeCluster {
    /// Starts one and waits until its node is ready; `image` is the archive to import, else it is
    /// built.
    pub(crate) fn up(image: Option<&Path>) -> anyhow::Result<Self> {
        let this = Self { folder: tempfile::Builder::new().prefix("whygate-node-").tempdir()? };
        let status = this.ring_b("up").args(image).stdin(Stdio::null()).status();
        let status = status.with_context(|| format!("cannot run {RING_B}"))?;
        ensure!(status.success(), "the cluster did not start");
        Ok(this)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program on the host beside the node, with the administrator's kubectl and helm.
    pub(crate) fn beside(&self, program: &Path) -> Command {
        let mut command = self.ring_b("client");
        command.arg(program);
        command
    }

    /// The ends of the logs, for whoever looks for the reason.
    pub(crate) fn report(&self) {
        let logs = fs::read_dir(self.folder().join("log")).into_iter().flatten().flatten();
        for log in logs.map(|entry| entry.path()) {
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().rev().take(5).collect();
            say(&format!("--- {}", log.display()));
            lines.into_iter().rev().for_each(say);
        }
    }

    fn ring_b(&self, verb: &str) -> Command {
        let mut command = Command::new(RING_B);
        command.arg(verb).arg(self.folder());
        command
    }
}

impl Drop for NodeCluster {
    fn drop(&mut self) {
        let _ = self.ring_b("down").status();
        // `down` removes the folder, and the guard would complain that it is gone: make it again.
        let _ = fs::create_dir_all(self.folder());
    }
}

/// Runs a program of the administrator's to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    e2e::process::run(&mut Command::new(program), arguments, "")?
        .success()
        .with_context(|| format!("{program} {}", arguments.join(" ")))
}

/// `kubectl`, with the words of one line as its arguments.
pub(crate) fn kubectl(line: &str) -> anyhow::Result<String> {
    run("kubectl", &line.split_whitespace().collect::<Vec<_>>())
}

/// What an object is, as JSON.
pub(crate) fn get(line: &str) -> anyhow::Result<serde_json::Value> {
    let text = kubectl(&format!("get {line} --output json"))?;
    serde_json::from_str(&text).with_context(|| format!("get {line}"))
}

/// Applies manifests.
pub(crate) fn apply(manifests: &str) -> anyhow::Result<()> {
    let arguments = ["apply", "--filename", "-"];
    e2e::process::run(&mut Command::new("kubectl"), &arguments, manifests)?.success()?;
    Ok(())
}

/// The root of this checkout.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
