//! An HTTP client that does exactly what it is told: from this address, to that one, with this
//! name in the TLS greeting, in this version. No pool, no redirect, no retry.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certificates::{Certificate, server_name};

/// Longest time for connecting, and for one answer: 30 s.
const LIMIT: Duration = Duration::from_secs(30);

/// A request's body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by ALPN over TLS and by prior knowledge without.
    Http2,
}

/// Where requests go and how.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    source: Option<IpAddr>,
    protocol: Protocol,
    trust: Option<Arc<RootCertStore>>,
    identity: Option<Certificate>,
    greeting: Option<String>,
}

impl Client {
    /// A client for one address: HTTP/1.1, without TLS, from any address of this machine.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            source: None,
            protocol: Protocol::Http1,
            trust: None,
            identity: None,
            greeting: None,
        }
    }

    /// Connects from this address.
    #[must_use]
    pub fn from(self, source: impl Into<IpAddr>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Speaks this version of HTTP.
    #[must_use]
    pub fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// Uses TLS and trusts these certificates (PEM) and nobody else.
    ///
    /// # Errors
    /// The text isn't PEM, or holds no certificate.
    pub fn trusting_pem(self, pem: &[u8]) -> anyhow::Result<Self> {
        let mut trust = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            trust.add(certificate?)?;
        }
        ensure!(!trust.is_empty(), "there is no certificate to trust");
        Ok(Self { trust: Some(Arc::new(trust)), ..self })
    }

    /// Uses TLS and trusts what `authority` signed.
    ///
    /// # Errors
    /// The authority's certificate can't be read.
    pub fn trusting(self, authority: &crate::Authority) -> anyhow::Result<Self> {
        self.trusting_pem(authority.pem().as_bytes())
    }

    /// Shows this certificate if the server asks for one.
    #[must_use]
    pub fn identified_by(self, identity: Certificate) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Says this name in the TLS greeting (SNI) instead of the request's host. An address is not
    /// said at all, which makes a greeting without a name.
    #[must_use]
    pub fn greeting(self, name: &str) -> Self {
        Self { greeting: Some(name.into()), ..self }
    }

    /// One GET over a connection of its own.
    ///
    /// # Errors
    /// There was no whole answer; any status is an answer.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(request(Method::GET, host, path).body(())?.map(|()| empty())).await
    }

    /// One request over a connection of its own. Its URI is absolute: the host goes into `Host` (or
    /// `:authority`) and, with TLS, into the greeting.
    ///
    /// # Errors
    /// There was no whole answer; any status is an answer.
    pub async fn send(&self, request: Request<Body>) -> anyhow::Result<Answer> {
        let host = request.uri().host().context("a request needs a host")?.to_owned();
        self.connect(&host).await?.send(request).await
    }

    /// Opens a connection for many requests; `host` is the name in the greeting unless
    /// [`Client::greeting`] gave another.
    ///
    /// # Errors
    /// Nobody answers, or the TLS handshake failed.
    pub async fn connect(&self, host: &str) -> anyhow::Result<Connection> {
        timeout(LIMIT, self.connect_unlimited(host))
            .await
            .with_context(|| format!("no connection to {} within {LIMIT:?}", self.address))?
            .with_context(|| format!("cannot connect to {}", self.address))
    }

    async fn connect_unlimited(&self, host: &str) -> anyhow::Result<Connection> {
        let stream = connect(self.address, self.source).await?;
        let Some(trust) = &self.trust else {
            return Connection::over(stream, self.protocol, "http").await;
        };
        let tls = TlsConnector::from(Arc::new(self.settings(Arc::clone(trust))?));
        let name = server_name(self.greeting.as_deref().unwrap_or(host))?;
        let stream = tls.connect(name, stream).await.context("TLS handshake")?;
        Connection::over(stream, self.protocol, "https").await
    }

    fn settings(&self, trust: Arc<RootCertStore>) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(trust);
        let mut settings = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.decoded()?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        settings.alpn_protocols = match self.protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(settings)
    }
}

/// Opens a TCP connection to `address`, from `source` if one is given.
///
/// # Errors
/// Nobody listens there, or `source` isn't an address of this machine.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> anyhow::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).with_context(|| format!("cannot use {source}"))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request without its body; add headers, then `.body(e2e::client::empty())`.
pub fn request(method: Method, host: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{host}{path}"))
}

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A body with a length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
    driver: JoinHandle<hyper::Result<()>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    async fn over<T>(stream: T, protocol: Protocol, scheme: &'static str) -> anyhow::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                (Sender::Http1(sender), tokio::spawn(connection))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                (Sender::Http2(sender), tokio::spawn(connection))
            }
        };
        Ok(Self { sender, scheme, driver })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There was no whole answer; any status is an answer.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Answer> {
        let answer = async {
            let (head, body) = self.send_streaming(request).await?.into_parts();
            let body = body.collect().await.context("the answer's body broke off")?;
            let trailers = body.trailers().cloned();
            Ok(Answer {
                status: head.status,
                version: head.version,
                headers: head.headers,
                body: body.to_bytes(),
                trailers,
            })
        };
        timeout(LIMIT, answer).await.with_context(|| format!("no answer within {LIMIT:?}"))?
    }

    /// Sends a request and gives back the answer as soon as its head has arrived.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn send_streaming(
        &mut self,
        mut request: Request<Body>,
    ) -> anyhow::Result<Response<Incoming>> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                to_origin_form(&mut request)?;
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                set_scheme(&mut request, self.scheme)?;
                sender.ready().await?;
                sender.send_request(request).await
            }
        };
        response.context("the connection gave no answer")
    }

    /// Whether the other side has closed the connection.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// HTTP/1.1 has the host in a header and the path in the first line.
fn to_origin_form(request: &mut Request<Body>) -> anyhow::Result<()> {
    let uri = request.uri().clone();
    if let Some(authority) = uri.authority()
        && !request.headers().contains_key(http::header::HOST)
    {
        request.headers_mut().insert(http::header::HOST, authority.as_str().parse()?);
    }
    if let Some(path) = uri.path_and_query() {
        *request.uri_mut() = path.as_str().parse()?;
    }
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

fn set_scheme(request: &mut Request<Body>, scheme: &str) -> anyhow::Result<()> {
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(scheme.parse()?);
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version it came in.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Headers that came after the body.
    pub trailers: Option<HeaderMap>,
}

/// The status of an answer and the code of the refusal in it; none is "".
pub fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.header("whygate-denial-code"))
}

impl Answer {
    /// A header's value; empty if it isn't there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It isn't JSON of this shape.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON as expected: {}", self.text()))
    }
}
