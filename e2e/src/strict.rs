//! An upstream that forgives nothing: it reads bytes, accepts only requests with exactly one
//! reading, and remembers each.
//!
//! Lenient servers hide what a proxy lets through. This one takes one spelling of everything; any
//! other is a violation, and the test fails by asking for [`StrictUpstream::violations`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Largest head and largest body that are read: 1 MiB.
const LIMIT: usize = 1024 * 1024;

/// Where a connection may end too early.
const HEAD: &str = "head";
const BODY: &str = "body";

/// The header of an answer that repeats the target of its request.
pub const SEEN: &str = "x-seen";

/// A request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrictRequest {
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// Names and values as they were spelt, in order.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<StrictRequest>,
    violations: Vec<String>,
}

/// The strict upstream. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct StrictUpstream {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl StrictUpstream {
    /// Starts it; every good request is answered with 200 and its number, and with its target under
    /// [`SEEN`], by which a client knows that the answer is to its own request.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("no upstream can listen at {address}"))?;
        let address = listener.local_addr()?;
        let record = Arc::default();
        let task = tokio::spawn(accept(listener, Arc::clone(&record)));
        Ok(Self { address, record, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<StrictRequest> {
        lock(&self.record).requests.clone()
    }

    /// What else arrived: one sentence for each connection with bytes that are no strict request.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.record).violations.clone()
    }
}

impl Drop for StrictUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, record: Arc<Mutex<Record>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(serve(stream, Arc::clone(&record)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, record: Arc<Mutex<Record>>) {
    let mut reader = Reader { stream, buffer: Vec::new() };
    loop {
        match reader.request().await {
            Ok(Some(request)) => {
                let target = request.target.clone();
                let number = {
                    let mut record = lock(&record);
                    record.requests.push(request);
                    record.requests.len().to_string()
                };
                let length = number.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\n{SEEN}: {target}\r\ncontent-length: {length}\r\n\r\n{number}"
                );
                if reader.stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(violation) => {
                lock(&record).violations.push(format!("{violation:#}"));
                let refusal =
                    b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                // The violation is what counts; whether the proxy hears of it doesn't.
                let _ = reader.stream.write_all(refusal).await;
                return;
            }
        }
    }
}

/// How a body is delimited.
enum Framing {
    Length(usize),
    Chunked,
}

struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    /// The next request; `None` if the connection ends between two.
    async fn request(&mut self) -> anyhow::Result<Option<StrictRequest>> {
        if self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let (method, target) = read_first_line(&self.line(HEAD).await?)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line(HEAD).await?;
            if line.is_empty() {
                break;
            }
            headers.push(read_header(&line)?);
            ensure!(headers.len() <= 1000, "more than 1000 headers");
        }
        let body = match read_framing(&headers)? {
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.chunks().await?,
        };
        Ok(Some(StrictRequest { method, target, headers, body }))
    }

    /// Bytes up to CR LF, without it. A CR or LF by itself is a violation. Each byte becomes one
    /// character, as in Latin-1.
    async fn line(&mut self, within: &str) -> anyhow::Result<String> {
        let end = loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                break end;
            }
            ensure!(self.buffer.len() <= LIMIT, "a line longer than {LIMIT} bytes");
            ensure!(self.fill().await?, "the connection ended within a {within}");
        };
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        ensure!(line.pop() == Some(b'\r'), "a line ends with a bare LF: {:?}", shown(&line));
        ensure!(
            line.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f),
            "a line with control characters: {:?}",
            shown(&line)
        );
        Ok(line.into_iter().map(char::from).collect())
    }

    async fn take(&mut self, length: usize) -> anyhow::Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.buffer.len() <= LIMIT, "a body is longer than {LIMIT} bytes");
            ensure!(self.fill().await?, "the connection ended within a body");
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn chunks(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line(BODY).await?;
            let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(digits && line.len() <= 8, "`{line}` is not the size of a chunk");
            let size = usize::from_str_radix(&line, 16)?;
            if size == 0 {
                return self.end_of_chunks(body).await;
            }
            body.extend(self.take(size).await?);
            ensure!(self.line(BODY).await?.is_empty(), "a chunk is longer than its size");
        }
    }

    /// Trailers are checked like headers and dropped.
    async fn end_of_chunks(&mut self, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        loop {
            let line = self.line(BODY).await?;
            if line.is_empty() {
                return Ok(body);
            }
            read_header(&line)?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<bool> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) => Ok(read > 0),
            // A proxy that gives a connection up may reset it; between requests that is no fault.
            Err(_) if self.buffer.is_empty() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn read_first_line(line: &str) -> anyhow::Result<(String, String)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words.as_slice() else {
        bail!("`{line}` isn't a method, a target and a version");
    };
    ensure!(*version == "HTTP/1.1", "`{version}` isn't HTTP/1.1");
    ensure!(is_token(method), "`{method}` isn't a method");
    ensure!(target.is_ascii(), "`{target}` isn't ASCII");
    let origin = target.starts_with('/') || (*target == "*" && *method == "OPTIONS");
    ensure!(origin && !target.contains(['\t', '#', '\\']), "`{target}` isn't a target");
    Ok(((*method).to_owned(), (*target).to_owned()))
}

fn read_header(line: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = line.split_once(':').with_context(|| format!("`{line}` has no colon"))?;
    ensure!(is_token(name), "`{name}` isn't the name of a header");
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn read_framing(headers: &[(String, String)]) -> anyhow::Result<Framing> {
    let values = |name: &str| -> Vec<&str> {
        let same = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    };
    let hosts = values("host");
    ensure!(hosts.len() == 1, "{} Host headers", hosts.len());
    ensure!(
        hosts.iter().all(|host| !host.is_empty() && !host.contains([' ', ',', '\t', '/', '@'])),
        "{hosts:?} is not one host"
    );
    // A server that takes `_` for `-` would read these as framing.
    for (name, _) in headers {
        let plain = name.to_ascii_lowercase().replace('_', "-");
        let framing = ["content-length", "transfer-encoding", "host"].contains(&plain.as_str());
        ensure!(!framing || !name.contains('_'), "`{name}` can be read as `{plain}`");
    }
    match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Framing::Length(
            length.parse().with_context(|| format!("`{length}` is not a length"))?,
        )),
        (lengths, encodings) => bail!("lengths {lengths:?} with encodings {encodings:?}"),
    }
}
