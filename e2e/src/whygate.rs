//! The program under test, running.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{self, Finished, Process};
use crate::program;
use crate::wait::eventually;

/// Longest time from start to ready: 30 s.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Where a program listens that was told nothing else: loopback, free ports.
const LISTENERS: [&str; 4] =
    ["--http-listen", "--https-listen", "--admin-listen", "--inspect-listen"];

/// What the program writes when it is ready: the addresses it has really bound.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ready {
    /// Plain HTTP.
    #[serde(default)]
    pub http: Vec<SocketAddr>,
    /// HTTP over TLS.
    #[serde(default)]
    pub https: Vec<SocketAddr>,
    /// Liveness, readiness, metrics.
    pub admin: Option<SocketAddr>,
    /// Snapshot and records of refusals.
    pub inspect: Option<SocketAddr>,
    /// The process id.
    pub pid: u32,
}

/// A running `whygate`. Dropping it kills it by its process id.
#[derive(Debug)]
pub struct Whygate {
    process: Process,
    ready: Option<Ready>,
    folder: TempDir,
}

impl Whygate {
    /// Starts `whygate serve` on a folder of manifests and waits until it is ready.
    ///
    /// Each listener takes a free port of loopback unless `flags` say otherwise.
    ///
    /// # Errors
    /// It ended, or doesn't get ready; the error shows what it printed.
    pub async fn serve(manifests: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut this = Self::begin_serve(manifests, flags)?;
        this.wait_ready().await?;
        Ok(this)
    }

    /// Starts `whygate run` with a kubeconfig and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or doesn't get ready; the error shows what it printed.
    pub async fn run(kubeconfig: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut this = Self::begin_run(kubeconfig, flags)?;
        this.wait_ready().await?;
        Ok(this)
    }

    /// Starts `whygate serve` without waiting.
    ///
    /// # Errors
    /// The program isn't there.
    pub fn begin_serve(manifests: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program::build()?);
        command.arg("serve").arg("--manifests").arg(manifests);
        Self::begin(command, flags)
    }

    /// Starts `whygate run` without waiting.
    ///
    /// # Errors
    /// The program isn't there.
    pub fn begin_run(kubeconfig: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program::build()?);
        command.arg("run").env("KUBECONFIG", kubeconfig);
        Self::begin(command, flags)
    }

    fn begin(mut command: Command, flags: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("whygate-").tempdir()?;
        for listener in LISTENERS.iter().filter(|name| !names(flags, name)) {
            command.args([listener, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(folder.path().join("ready")).args(flags);
        let process = Process::start("whygate", &mut command, folder.path())?;
        Ok(Self { process, ready: None, folder })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended, or doesn't get ready; the error shows what it printed.
    pub async fn wait_ready(&mut self) -> anyhow::Result<&Ready> {
        let ready = eventually(READY_LIMIT, "whygate is ready", async || {
            match self.try_ready() {
                Ok(ready) => Ok(Ok(ready)),
                // One that has ended never gets ready: no need to wait for the limit.
                Err(error) => {
                    self.process.ensure_running().map_or_else(|end| Ok(Err(end)), |()| Err(error))
                }
            }
        })
        .await
        .with_context(|| format!("whygate printed:\n{}", self.output()))??;
        Ok(self.ready.insert(ready))
    }

    /// What it wrote into its ready file, if it has done so.
    ///
    /// # Errors
    /// It isn't ready yet.
    pub fn try_ready(&self) -> anyhow::Result<Ready> {
        let text = fs::read(self.folder.path().join("ready")).context("whygate isn't ready")?;
        serde_json::from_slice(&text).context("whygate's ready file can't be read")
    }

    /// Its first plain HTTP address.
    ///
    /// # Errors
    /// It has none, or isn't ready.
    pub fn http(&self) -> anyhow::Result<SocketAddr> {
        self.listener(|ready| ready.http.first().copied(), "plain HTTP")
    }

    /// Its first address for HTTP over TLS.
    ///
    /// # Errors
    /// It has none, or isn't ready.
    pub fn https(&self) -> anyhow::Result<SocketAddr> {
        self.listener(|ready| ready.https.first().copied(), "TLS")
    }

    /// Its admin address.
    ///
    /// # Errors
    /// It has none, or isn't ready.
    pub fn admin(&self) -> anyhow::Result<SocketAddr> {
        self.listener(|ready| ready.admin, "the admin port")
    }

    /// Its inspect address.
    ///
    /// # Errors
    /// It has none, or isn't ready.
    pub fn inspect(&self) -> anyhow::Result<SocketAddr> {
        self.listener(|ready| ready.inspect, "the inspect port")
    }

    fn listener(
        &self,
        which: impl Fn(&Ready) -> Option<SocketAddr>,
        what: &str,
    ) -> anyhow::Result<SocketAddr> {
        self.ready
            .as_ref()
            .and_then(which)
            .with_context(|| format!("whygate has no address for {what}"))
    }

    /// Everything it printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits until it has printed a line that contains `text`, and gives back that line.
    ///
    /// # Errors
    /// It hasn't within `limit`.
    pub async fn line(&self, limit: Duration, text: &str) -> anyhow::Result<String> {
        eventually(limit, &format!("whygate prints `{text}`"), async || {
            let output = self.output();
            let line = output.lines().find(|line| line.contains(text)).map(str::to_owned);
            line.with_context(|| format!("it printed:\n{output}"))
        })
        .await
    }

    /// A value of its metrics that is a whole number.
    ///
    /// # Errors
    /// There is no such metric, or the program isn't ready.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let answer = Client::new(self.admin()?).get("127.0.0.1", "/metrics").await?;
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}:\n{text}"))?.parse()?)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks it to drain and end.
    ///
    /// # Errors
    /// The system refuses.
    pub fn sigterm(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Asks it to end, as somebody at a keyboard does.
    ///
    /// # Errors
    /// The system refuses.
    pub fn sigint(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::INT)
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait(limit).await
    }

    /// Runs a command that ends by itself: `check`, `explain`, `code`, `key new`, `--help`.
    ///
    /// # Errors
    /// The program isn't there; a failing command is in the result.
    pub fn command(arguments: &[&str]) -> anyhow::Result<Finished> {
        process::run(&mut Command::new(program::build()?), arguments, "")
    }
}

/// Whether `flags` set the flag `name`, as `--flag value` or `--flag=value`.
fn names(flags: &[&str], name: &str) -> bool {
    flags.iter().any(|flag| flag.split('=').next() == Some(name))
}
