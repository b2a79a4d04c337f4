//! The program under test: given by the environment, or built once by the test binary.

use std::env;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, ensure};
use cargo_metadata::Message;

/// The program to test, if it isn't the one to be built (a release build, say).
pub const VARIABLE: &str = "WHYGATE_BINARY";

/// Where the workspace is.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The path of the `whygate` program; built at the first call.
///
/// # Errors
/// It doesn't compile; what the compiler said stands on standard error.
pub fn build() -> anyhow::Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{VARIABLE} is `{}`, which is no file", path.display());
        return Ok(path);
    }
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = built.as_ref() {
        return Ok(path.clone());
    }
    let path = compile()?;
    *built = Some(path.clone());
    Ok(path)
}

/// Cargo builds no other package's program for a test, so it is asked to, and prints where it went.
///
/// `--workspace` settles which features libraries get: the same as in a test of the whole workspace,
/// so that nothing but the program itself is built again.
fn compile() -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "whygate"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(Path::new(WORKSPACE))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `cargo`, which builds the program under test")?;
    let messages = cargo.stdout.take().context("cargo was started with a pipe")?;
    let mut executable = None;
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == "whygate"
        {
            executable = artifact.executable.or(executable);
        }
    }
    let status = cargo.wait()?;
    ensure!(status.success(), "the program under test doesn't compile");
    executable.map(Into::into).context("cargo built no program named `whygate`")
}
