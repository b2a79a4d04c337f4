//! An upstream that tells what it received.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How an upstream answers a request whose body it has read.
type Answerer = dyn Fn(Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync;

/// An HTTP/1.1 server. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    connections: AtomicU64,
}

/// What the echo answers, as JSON: the request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The name of the upstream that answered.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// The request target.
    pub uri: String,
    /// Names (lower case) and values, in the order of arrival for each name. A value that isn't
    /// text is shown with replacement characters.
    pub headers: Vec<(String, String)>,
    /// The length of the body in bytes.
    pub body_length: usize,
    /// The client's address as the upstream sees it.
    pub peer: String,
}

impl Echo {
    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let same = self.headers.iter().filter(|(key, _)| key == name);
        same.map(|(_, value)| value.as_str()).collect()
    }
}

impl Upstream {
    /// Starts an upstream that answers every request with an [`Echo`].
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn start(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let name = name.to_owned();
        Self::answering(address, move |request| echo(&name, &request)).await
    }

    /// Starts an upstream that answers as `answer` says.
    ///
    /// The request's extensions hold the peer's `SocketAddr`.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn answering(
        address: SocketAddr,
        answer: impl Fn(Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("no upstream can listen at {address}"))?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&counts), Arc::new(answer)));
        Ok(Self { address, counts, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have reached it, whole ones only.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>, answer: Arc<Answerer>) {
    // The set owns the connections' tasks: they end with this one.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, peer)) = listener.accept() => {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, peer, Arc::clone(&counts), Arc::clone(&answer)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, counts: Arc<Counts>, answer: Arc<Answerer>) {
    let service = service_fn(|request: Request<Incoming>| async {
        let (mut head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok::<_, Infallible>(incomplete());
        };
        counts.requests.fetch_add(1, Ordering::SeqCst);
        head.extensions.insert(peer);
        Ok(answer(Request::from_parts(head, body.to_bytes())))
    });
    // A connection that breaks off is the client's business, and tests look at the client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn incomplete() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("the request's body broke off\n"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn echo(name: &str, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let echo = Echo {
        upstream: name.to_owned(),
        method: request.method().to_string(),
        uri: request.uri().to_string(),
        headers: pairs(request.headers()),
        body_length: request.body().len(),
        peer: request.extensions().get().map(SocketAddr::to_string).unwrap_or_default(),
    };
    let body = serde_json::to_vec_pretty(&echo).unwrap_or_default();
    let mut response = Response::new(Full::from(body));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
