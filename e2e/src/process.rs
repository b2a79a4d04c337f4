//! A child process with its output in a file, ended and reaped when its owner goes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::eventually;

/// How many lines of a process's output go into the report of a failed test.
const LAST_LINES: usize = 40;

/// A running (or ended) child process. Dropping it kills it by its process id and waits for it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; what it prints goes to `NAME.log` in `folder`, appended.
    ///
    /// # Errors
    /// The program or the folder isn't there.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let output = folder.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&output)
            .with_context(|| format!("cannot write `{}`", output.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
        Ok(Self { name: name.into(), child, output, ended: None })
    }

    /// The process id, as the process itself sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far, standard output and standard error as they came.
    pub fn output(&self) -> String {
        fs::read(&self.output)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    /// The system can't tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Fails with the process's last words if it has ended.
    ///
    /// # Errors
    /// The process has ended.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.last_lines()),
        }
    }

    /// Sends a signal; nothing happens if the process has ended.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process id is a positive number")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        eventually(limit, &format!("{name} ends"), async || {
            self.ended()?.with_context(|| format!("{name} is still running"))
        })
        .await
    }

    /// Kills it (SIGKILL) and waits for it.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // Both fail only if it has gone already.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    fn last_lines(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        crate::suite::report(&format!("--- last lines of {}\n{}", self.name, self.last_lines()));
    }
}

/// Runs a command to its end, with `input` as its standard input.
///
/// # Errors
/// It can't be started; a failing command is not an error.
pub fn run<S: AsRef<OsStr>>(
    command: &mut Command,
    arguments: &[S],
    input: &str,
) -> anyhow::Result<Finished> {
    use std::io::Write as _;

    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that doesn't read its input closes the pipe: that is its right.
            pipe.map(|mut pipe| pipe.write_all(input.as_bytes()))
        });
        child.wait_with_output()
    })?;
    Ok(Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// What a command that ended has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub stdout: String,
    /// What it had to say beside it.
    pub stderr: String,
}

impl Finished {
    /// The standard output of a command that succeeded.
    ///
    /// # Errors
    /// The command failed; the error is what it said.
    pub fn success(self) -> anyhow::Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        bail!("exit code {:?}: {}{}", self.code, self.stderr, self.stdout)
    }
}
