//! The corpus: manifests, requests, and how each request must end. One corpus, several runners; a
//! disagreement between runners is a bug of the product.

mod credentials;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

pub use credentials::{CertificateSpec, Credentials, TokenSpec};
pub use verdict::{Expectation, Verdict};

/// The header that stands for the client's address in every runner: the listener trusts loopback.
pub const CLIENT_HEADER: &str = "x-test-client";

/// One file of the corpus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The sentence that must stay true.
    pub why: String,
    /// `closed` switches the default posture; `open` if it is left out.
    #[serde(default)]
    pub posture: Option<String>,
    /// `--max-objects-per-namespace`; the program's own default if it is left out.
    #[serde(default, rename = "max-objects-per-namespace")]
    pub max_objects_per_namespace: Option<NonZeroUsize>,
    /// YAML documents. `${jwks}`, `${id:NAME}` and `${sha256:NAME}` stand for credentials,
    /// `${crt:HOST}` and `${pem:HOST}` for a certificate and its key, in base64, `${ca:NAME}` for the
    /// certificate of an authority that issues those of clients.
    pub manifests: String,
    /// The requests, each with its expected end.
    pub requests: Vec<Sent>,
    /// Its path below the corpus, without the extension.
    #[serde(skip)]
    pub name: String,
}

/// A request of a case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sent {
    /// `METHOD URL`.
    pub send: String,
    /// The client's address; 192.0.2.1 if it is left out.
    pub from: Option<IpAddr>,
    /// Headers; a list sends the header several times.
    #[serde(default)]
    pub headers: BTreeMap<String, Values>,
    /// A bearer token to make and send.
    pub token: Option<TokenSpec>,
    /// The name of an API key to send.
    pub key: Option<String>,
    /// A certificate to show if the TLS handshake asks for one.
    pub certificate: Option<CertificateSpec>,
    /// The name in the TLS greeting; without it the request goes out in plain text.
    pub sni: Option<String>,
    /// How it must end.
    pub expect: Expectation,
}

/// One or several values of a header.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One value.
    One(String),
    /// A value a line.
    Many(Vec<String>),
}

impl Case {
    /// The manifests with the credentials filled in.
    ///
    /// # Errors
    /// A placeholder names nothing.
    pub fn filled(&self, credentials: &Credentials) -> anyhow::Result<String> {
        credentials.fill(&self.manifests)
    }
}

impl Sent {
    /// The request as it goes out, client address and credentials included.
    ///
    /// # Errors
    /// The case is not well written.
    pub fn request(&self, credentials: &Credentials) -> anyhow::Result<http::Request<()>> {
        let (method, url) = self.send.split_once(' ').context("`send` is METHOD URL")?;
        let mut request = http::Request::builder().method(method).uri(url);
        if !self.headers.contains_key(CLIENT_HEADER) {
            let from = self.from.map_or_else(|| "192.0.2.1".into(), |from| from.to_string());
            request = request.header(CLIENT_HEADER, from);
        }
        for (name, values) in &self.headers {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            for value in values {
                request = request.header(name, value);
            }
        }
        if let Some(token) = &self.token {
            request =
                request.header("authorization", format!("Bearer {}", credentials.token(token)?));
        }
        if let Some(key) = &self.key {
            request = request.header("x-api-key", Credentials::api_key(key));
        }
        Ok(request.body(())?)
    }
}

/// Every case, in the order of the file names.
///
/// # Errors
/// A file cannot be read; the error names it.
pub fn cases() -> anyhow::Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files = Vec::new();
    for topic in fs::read_dir(&folder)? {
        for file in fs::read_dir(topic?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "the corpus is empty");
    files.iter().map(|file| case(&folder, file)).collect()
}

fn case(folder: &Path, file: &PathBuf) -> anyhow::Result<Case> {
    let text = fs::read_to_string(file)?;
    let mut case: Case =
        serde_saphyr::from_str(&text).with_context(|| format!("{}", file.display()))?;
    case.name = file.strip_prefix(folder)?.with_extension("").display().to_string();
    // A case that asks or expects nothing could not fail.
    ensure!(!case.requests.is_empty(), "{} sends no request", case.name);
    let idle = case.requests.iter().find(|sent| sent.expect == Expectation::default());
    ensure!(idle.is_none(), "{} expects nothing of a request", case.name);
    Ok(case)
}
