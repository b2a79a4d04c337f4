//! Clients that ask all the time and tell apart what was lost: an answer that never came.

use std::{
    collections::BTreeMap,
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{bail, ensure};
use e2e::{
    Protocol,
    client::{Body, connect, empty},
};
use http::{Method, Request, Response, Version, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName,
    pki_types::pem::PemObject as _,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// Clients of each protocol.
pub(crate) const CLIENTS: usize = 8;

/// Requests at a time of an HTTP/2 client.
const STREAMS: usize = 3;

/// Between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(8);

/// Longest time for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What is asked for, and where.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Where plain HTTP/1.1 goes.
    pub(crate) http: SocketAddr,
    /// Where HTTP/2 over TLS goes; nowhere if there is none.
    pub(crate) https: Option<SocketAddr>,
    /// The host of every request.
    pub(crate) host: &'static str,
    /// The path of every request.
    pub(crate) path: &'static str,
    /// The status that every answer must have.
    pub(crate) status: u16,
    /// Whose signature on the host's certificate is trusted (PEM).
    pub(crate) trusted: Arc<str>,
}

/// What became of the requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Answered as they should, HTTP/1.1.
    pub(crate) http1: usize,
    /// Answered as they should, HTTP/2.
    pub(crate) http2: usize,
    /// Connections that could not be opened. Nothing was sent on them.
    pub(crate) refused: usize,
    /// Sent and not answered, or answered otherwise, with the time and the reason.
    pub(crate) lost: Vec<(Instant, String)>,
}

impl Tally {
    pub(crate) fn answered(&self) -> usize {
        self.http1 + self.http2
    }

    /// Fails unless every request was answered and every connection opened.
    pub(crate) fn ensure_complete(&self) -> anyhow::Result<()> {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, reason) in &self.lost {
            *reasons.entry(reason).or_default() += 1;
        }
        ensure!(
            self.lost.is_empty() && self.refused == 0,
            "{} answered, {} connections refused, {} requests lost: {reasons:?}",
            self.answered(),
            self.refused,
            self.lost.len()
        );
        Ok(())
    }
}

/// Clients that ask until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    clients: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(target: &Target) -> Self {
        let (stop, tally): (_, Arc<Mutex<Tally>>) = Default::default();
        let mut clients = JoinSet::new();
        let protocols = [Protocol::Http1, Protocol::Http2];
        for protocol in protocols.into_iter().take(1 + usize::from(target.https.is_some())) {
            for _ in 0..CLIENTS {
                let shared = (target.clone(), Arc::clone(&stop), Arc::clone(&tally));
                clients.spawn(ask(protocol, shared));
            }
        }
        Self { stop, tally, clients }
    }

    /// What became of the requests so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the requests under way end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        Ok(self.tally())
    }
}

type Shared = (Target, Arc<AtomicBool>, Arc<Mutex<Tally>>);

async fn ask(protocol: Protocol, shared: Shared) {
    let (target, stop, tally) = &shared;
    while !stop.load(Ordering::Relaxed) {
        let opened = timeout(LIMIT, open(target, protocol)).await;
        let Ok(Ok(streams)) = opened else {
            tally.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
            sleep(PAUSE).await;
            continue;
        };
        let streams = streams.into_iter().map(|stream| use_up(stream, shared.clone()));
        streams.collect::<JoinSet<()>>().join_all().await;
    }
}

/// Asks over one connection until it takes nothing more.
async fn use_up(mut stream: Stream, (target, stop, tally): Shared) {
    while !stop.load(Ordering::Relaxed) {
        let sent = timeout(LIMIT, stream.send(&target)).await;
        let outcome = match sent {
            Ok(Sent::Not) => return,
            Ok(Sent::Answered(outcome)) => outcome,
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        };
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match (outcome, &stream) {
                (Ok(()), Stream::Http1(_)) => tally.http1 += 1,
                (Ok(()), Stream::Http2(_)) => tally.http2 += 1,
                (Err(reason), _) => tally.lost.push((Instant::now(), reason)),
            }
        }
        sleep(PAUSE).await;
    }
}

/// What became of one request.
enum Sent {
    /// The connection took no more requests: this one was never sent.
    Not,
    /// It was sent; an error if there was no right and whole answer.
    Answered(Result<(), String>),
}

/// One request after another.
enum Stream {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Stream {
    async fn send(&mut self, target: &Target) -> Sent {
        let ready = match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        };
        if ready.is_err() {
            return Sent::Not;
        }
        let request = Request::builder().method(Method::GET);
        let request = match self {
            Self::Http1(_) => request.uri(target.path).header(header::HOST, target.host),
            Self::Http2(_) => {
                let uri = format!("https://{}{}", target.host, target.path);
                request.uri(uri).version(Version::HTTP_2)
            }
        };
        let Ok(request) = request.body(empty()) else { return Sent::Not };
        let answer = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        match answer {
            Ok(response) => Sent::Answered(whole(response, target.status).await),
            Err(mut error) => match error.take_message() {
                Some(_) => Sent::Not,
                None => unanswered(error.into_error()),
            },
        }
    }
}

/// A server that goes away names the last request that it takes (RFC 9113 section 6.8): what comes
/// behind that it has not looked at, and any client asks somebody else.
fn unanswered(error: hyper::Error) -> Sent {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    let is_left = |cause: &h2::Error| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    };
    if cause.is_some_and(is_left) { Sent::Not } else { Sent::Answered(Err(chain(error))) }
}

async fn whole(response: Response<Incoming>, expected: u16) -> Result<(), String> {
    let status = response.status();
    let body = response.into_body().collect().await.map_err(chain)?.to_bytes();
    if status != expected {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    if body.is_empty() { Err("an answer without a body".to_owned()) } else { Ok(()) }
}

fn chain(error: hyper::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

async fn open(target: &Target, protocol: Protocol) -> anyhow::Result<Vec<Stream>> {
    match (protocol, target.https) {
        (Protocol::Http1, _) => {
            let stream = TokioIo::new(connect(target.http, None).await?);
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok(vec![Stream::Http1(sender)])
        }
        (Protocol::Http2, Some(address)) => {
            let tls = TlsConnector::from(Arc::new(tls(&target.trusted)?));
            let name = ServerName::try_from(target.host)?;
            let stream = tls.connect(name, connect(address, None).await?).await?;
            let stream = TokioIo::new(stream);
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Ok(std::iter::repeat_with(|| Stream::Http2(sender.clone())).take(STREAMS).collect())
        }
        (Protocol::Http2, None) => bail!("HTTP/2 is asked over TLS alone"),
    }
}

fn tls(trusted: &str) -> anyhow::Result<ClientConfig> {
    let mut trust = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        trust.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trust)
        .with_no_client_auth();
    settings.alpn_protocols = vec![b"h2".to_vec()];
    Ok(settings)
}
