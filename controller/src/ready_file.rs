//! The file that tells tests and scripts which addresses are really bound.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// What stands in the file.
#[derive(Debug, Serialize)]
pub struct Ready<'a> {
    /// Plain HTTP.
    pub http: &'a [SocketAddr],
    /// HTTPS.
    pub https: &'a [SocketAddr],
    /// `/livez`, `/readyz`, `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// `/snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspect: Option<SocketAddr>,
    /// The process.
    pub pid: u32,
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write `{path}`: {source}; name a file in a directory that exists and may be written with --ready-file"
)]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl Ready<'_> {
    /// Writes the file as a whole: a reader sees all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let write = || {
            let text = serde_json::to_vec(self)?;
            let mut beside = path.as_os_str().to_owned();
            beside.push(format!(".{}", self.pid));
            fs::write(&beside, text)?;
            fs::rename(&beside, path)
        };
        write().map_err(|source| WriteError { path: path.to_owned(), source })
    }
}
