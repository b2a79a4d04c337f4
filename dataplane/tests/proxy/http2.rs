//! Endpoints that are spoken to in HTTP/2 or over TLS: trailers, shared connections, and whose fault
//! it is when they are not what they should be.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use decision::{
    client::AddressSource,
    options::{
        Options,
        headers::{HeaderEdits, Message},
    },
    refs::{Kind, ResourceRef},
    transport::{Authorities, HttpVersion, Roots, Tls, Transport},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http2, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::CertificateDer, sign::SingleCertAndKey};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    options::compression::{compressing, unpacked},
    secure::certificate,
    support::{HANGS, Plan, Upstream, http2_client},
};

type Body = BoxBody<Bytes, Infallible>;

/// An upstream of HTTP/2 that says what it got.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// What an upstream does with a request.
#[derive(Clone)]
struct Habits {
    /// Waits until so many requests are there.
    barrier: Option<Arc<Barrier>>,
    tls: Option<TlsAcceptor>,
}

const PLAIN: Habits = Habits { barrier: None, tls: None };

impl Endpoint {
    async fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let habits = habits.clone();
                open.spawn(async move {
                    let tls = habits.tls.clone();
                    match tls {
                        None => serve(TokioIo::new(stream), habits).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                                serve(TokioIo::new(stream), habits).await;
                            } else {
                                serve_one(TokioIo::new(stream), habits).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections, _task: task }
    }
}

async fn serve<I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static>(io: I, habits: Habits) {
    let answering = service_fn(move |request| answer(request, habits.clone()));
    let served = server::conn::http2::Builder::new(TokioExecutor::new());
    let mut served = served;
    drop(served.max_concurrent_streams(1_000).serve_connection(io, answering).await);
}

async fn serve_one<I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static>(io: I, habits: Habits) {
    let answering = service_fn(move |request| answer(request, habits.clone()));
    drop(server::conn::http1::Builder::new().serve_connection(io, answering).await);
}

/// The request's head and body as text, trailers of both sides in the trailers.
async fn answer(request: Request<Incoming>, habits: Habits) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await.unwrap();
    if let Some(barrier) = habits.barrier {
        barrier.wait().await;
    }
    let sent = collected.trailers().cloned().unwrap_or_default();
    let text = format!(
        "{} {} {:?}\n{:?}\nbehind it {sent:?}\n{}",
        parts.method,
        parts.uri,
        parts.version,
        parts.headers,
        String::from_utf8_lossy(&collected.to_bytes())
    );
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("whygate-admin", HeaderValue::from_static("yes"));
    trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
    trailers.insert("x-route", HeaderValue::from_static("upstream"));
    trailers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
    trailers.insert("x-got", HeaderValue::try_from(format!("{sent:?}")).unwrap());
    let body = Full::new(Bytes::from(text)).with_trailers(async move { Some(Ok(trailers)) });
    let content = parts.headers.get("content-type").cloned();
    let mut response = Response::new(body.boxed());
    if let Some(content) = content {
        response.headers_mut().insert("content-type", content);
    }
    Ok(response)
}

fn plan(address: SocketAddr, transport: Transport) -> Plan {
    let mut plan = Plan::new(&[address]);
    plan.transport = transport;
    plan
}

fn h2c() -> Transport {
    Transport { http: HttpVersion::Two, tls: None }
}

#[tokio::test]
async fn grpc_is_passed_on_with_its_trailers_both_ways() {
    let upstream = Endpoint::start(PLAIN).await;
    let mut plan = plan(upstream.address, h2c());
    let header = Some(HeaderName::from_static("cf-connecting-ip"));
    plan.source = AddressSource { header, ..AddressSource::default() };
    let proxy = plan.start();
    let (mut sender, _tasks) = http2_client(&proxy).await;
    let mut trailers = HeaderMap::new();
    for name in ["x-checksum"].into_iter().chain(NEVER_BEHIND) {
        trailers.insert(name, HeaderValue::from_static("1"));
    }
    let body = Full::new(Bytes::from("message")).with_trailers(async move { Some(Ok(trailers)) });
    let request = Request::post("http://shop.test/shop.Cart/Add?x=1");
    let request = request.header("content-type", "application/grpc").body(body.boxed()).unwrap();
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("whygate-request-id"));
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    let text = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
    assert!(text.starts_with("POST http://shop.test/shop.Cart/Add?x=1 HTTP/2.0\n"), "{text}");
    assert!(text.ends_with("\nmessage"), "{text}");
    for header in
        [r#""te": "trailers""#, r#""x-forwarded-for": "127.0.0.1""#, r#""via": "2.0 whygate""#]
    {
        assert!(text.contains(header), "{header} in {text}");
    }
    assert!(!text.contains("\"host\"") && !text.contains("transfer-encoding"), "{text}");
    assert_eq!(trailers["x-got"], r#"{"x-checksum": "1"}"#);
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["grpc-status", "x-got", "x-route"]);
}

/// What a client cannot say to an upstream in a head, or not without that it is judged.
const NEVER_BEHIND: [&str; 18] = [
    "authorization",
    "cf-connecting-ip",
    "client-cert",
    "cookie",
    "expect",
    "http2-settings",
    "proxy",
    "proxy-authenticate",
    "traceparent",
    "x-api-key",
    "x-forwarded-for",
    "x-http-method-override",
    "x-original-uri",
    "x-original-url",
    "x-request-id",
    "x-ssl-client-cert",
    "whygate-user",
    "x_user",
];

#[tokio::test]
async fn what_a_route_takes_from_heads_it_takes_from_trailers() {
    let upstream = Endpoint::start(PLAIN).await;
    let edits = |message| {
        let set = (HeaderName::from_static("x-team"), HeaderValue::from_static("shop"));
        HeaderEdits::new(message, vec![HeaderName::from_static("x-route")], vec![set], Vec::new())
    };
    let options = Options {
        request_headers: edits(Message::Request),
        response_headers: edits(Message::Response),
        ..Options::default()
    };
    let proxy = plan(upstream.address, h2c()).with(options).start();
    let (mut sender, _tasks) = http2_client(&proxy).await;
    let names = ["x-route", "x-team", "x-checksum"].map(HeaderName::from_static);
    let trailers = HeaderMap::from_iter(names.map(|name| (name, HeaderValue::from_static("1"))));
    let body = Full::new(Bytes::from("message")).with_trailers(async move { Some(Ok(trailers)) });
    let request = Request::post("http://shop.test/").body(body.boxed()).unwrap();
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(trailers["x-got"], r#"{"x-checksum": "1"}"#);
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["grpc-status", "x-got"]);
}

#[tokio::test]
async fn trailers_follow_a_compressed_body() {
    let upstream = Endpoint::start(PLAIN).await;
    let proxy = plan(upstream.address, h2c()).with(compressing()).start();
    let (mut sender, _tasks) = http2_client(&proxy).await;
    let body = Full::new(Bytes::from("message".repeat(1_000)));
    let request = Request::post("http://shop.test/")
        .header("content-type", "text/plain")
        .header("accept-encoding", "gzip")
        .body(body.boxed())
        .unwrap();
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let collected = timeout(HANGS, response.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    let text = unpacked(&collected.to_bytes());
    assert!(text.ends_with(&"message".repeat(1_000)), "{text}");
}

#[tokio::test]
async fn a_client_of_http1_reaches_an_endpoint_of_http2() {
    let upstream = Endpoint::start(PLAIN).await;
    let proxy = plan(upstream.address, h2c()).start();
    let request = "POST /a HTTP/1.1\r\nhost: shop.test\r\nconnection: close, upgrade, x-no\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-no: 1\r\n\r\n";
    let answer = proxy.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("POST http://shop.test/a HTTP/2.0\n"), "{answer}");
    assert!(answer.contains("\nbehind it {}\nhello"), "{answer}");
    assert!(!answer.contains("grpc-status") && !answer.contains("upgrade"), "{answer}");
    for _ in 0..3 {
        assert!(proxy.get("shop.test", "/", "").await.contains(" HTTP/2.0\n"));
    }
    assert!(upstream.connections.load(Ordering::SeqCst) <= 2, "one for each thread");
    let sent = proxy.metric("whygate_upstream_requests_total");
    assert_eq!((sent, proxy.metric("whygate_permits_total")), (4, 4));
}

#[tokio::test]
async fn requests_share_a_connection_until_it_is_full() {
    const COUNT: usize = 130;
    let barrier = Arc::new(Barrier::new(COUNT));
    let upstream = Endpoint::start(Habits { barrier: Some(barrier), tls: None }).await;
    let mut plan = plan(upstream.address, h2c());
    plan.limits.streams = std::num::NonZeroU32::new(1_000).unwrap();
    let proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let requests = (0..COUNT).map(|_| {
        let mut sender = sender.clone();
        async move {
            let request = Request::get("http://shop.test/").body(Body::default()).unwrap();
            let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
            response.into_body().collect().await.unwrap();
        }
    });
    futures::future::join_all(requests).await;
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 2);
    assert_eq!(proxy.metric("whygate_upstream_connections_total"), 2);
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_http2_is_told_apart() {
    let upstream = Upstream::echo().await;
    let mut proxy = plan(upstream.address, h2c()).start();
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.contains("whygate-denial-code: UpstreamMalformed\r\n"), "{answer}");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(sample.observed.contains("no HTTP/2 response"), "{sample:?}");
    assert!(sample.remedy.contains("whygate.dev/upstream-protocol"), "{sample:?}");
}

/// A certificate of its own making, and how endpoints that have it are served.
fn encrypted(name: &str, protocols: &[&[u8]]) -> (TlsAcceptor, CertificateDer<'static>) {
    let (key, der) = certificate(name);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from((*key).clone())));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), der)
}

fn tls(http: HttpVersion, name: &str, trusted: &CertificateDer<'_>) -> Transport {
    let resource = ResourceRef::new(Kind::Secret, "shop", "authority");
    let given = Authorities::new(resource, [trusted.as_ref().into()]);
    let roots = Roots::Given(Arc::new(given));
    Transport { http, tls: Some(Arc::new(Tls { server_name: name.into(), roots })) }
}

#[tokio::test]
async fn endpoints_over_tls_are_verified_and_kept() {
    for (http, protocol) in [(HttpVersion::One, "HTTP/1.1"), (HttpVersion::Two, "HTTP/2.0")] {
        let (acceptor, der) = encrypted("web.shop.svc", &[b"h2", b"http/1.1"]);
        let upstream = Endpoint::start(Habits { barrier: None, tls: Some(acceptor) }).await;
        let proxy = plan(upstream.address, tls(http, "web.shop.svc", &der)).start();
        for _ in 0..4 {
            let answer = proxy.get("shop.test", "/a", "").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains(&format!("/a {protocol}\n")), "{answer}");
        }
        assert!(upstream.connections.load(Ordering::SeqCst) <= 2, "one for each thread");
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_trusted_gets_no_request_and_the_blame() {
    let (acceptor, der) = encrypted("web.shop.svc", &[b"http/1.1"]);
    let (_, stranger) = certificate("web.shop.svc");
    for (http, name, trusted, problem) in [
        (HttpVersion::One, "other.shop.svc", &der, "not valid for name"),
        (HttpVersion::One, "web.shop.svc", &stranger, "invalid peer certificate"),
        (HttpVersion::Two, "web.shop.svc", &der, ""),
    ] {
        let habits = Habits { barrier: None, tls: Some(acceptor.clone()) };
        let upstream = Endpoint::start(habits).await;
        let mut proxy = plan(upstream.address, tls(http, name, trusted)).start();
        let answer = proxy.get("shop.test", "/", "").await;
        assert!(answer.contains("whygate-denial-code: UpstreamConnectFailed\r\n"), "{answer}");
        let sample = proxy.samples.recv().await.unwrap();
        let told = format!("endpoint {} is not trusted as `{name}` over TLS: ", upstream.address);
        assert!(sample.observed.starts_with(&told), "{sample:?}");
        assert!(sample.observed.contains(problem), "{sample:?}");
        assert!(sample.remedy.contains("whygate.dev/upstream-server-name"), "{sample:?}");
        assert_eq!(proxy.metric("whygate_upstream_connect_failures_total"), 1);
    }
    let plain = Upstream::echo().await;
    let mut proxy = plan(plain.address, tls(HttpVersion::One, "web.shop.svc", &der)).start();
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.contains("whygate-denial-code: UpstreamConnectFailed\r\n"), "{answer}");
    assert!(proxy.samples.recv().await.is_some());
    assert_eq!(proxy.metric("whygate_permits_total"), 1);
}

#[tokio::test]
async fn http_versions_are_told_by_the_version_of_the_request() {
    // The client's own side stays what it was, whatever the endpoint speaks.
    let upstream = Endpoint::start(PLAIN).await;
    let proxy = plan(upstream.address, h2c()).start();
    let (mut sender, _tasks) = http2_client(&proxy).await;
    let request = Request::get("http://shop.test/").body(Body::default()).unwrap();
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
}

#[tokio::test]
async fn an_endpoint_of_http2_that_is_full_lets_others_wait() {
    let barrier = Arc::new(Barrier::new(2));
    let endpoint = Endpoint::start(Habits { barrier: Some(Arc::clone(&barrier)), tls: None }).await;
    let mut plan = Plan::new(&[endpoint.address]);
    plan.transport = Transport { http: HttpVersion::Two, tls: None };
    plan.limits.upstream_connections = 1;
    let proxy = plan.start();
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (sender, connection) =
        http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let ask = || {
        let request = Request::get("http://shop.test/").body(Full::default()).unwrap();
        let asked = sender.clone().send_request(request);
        tokio::spawn(async move { asked.await.unwrap() })
    };
    // On one connection, so one data thread has both.
    let (first, second) = (ask(), ask());
    proxy.metric_becomes("whygate_upstream_waits_total", 1).await;
    timeout(HANGS, barrier.wait()).await.unwrap();
    timeout(HANGS, barrier.wait()).await.unwrap();
    for asked in [first, second] {
        let response = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(response.status().as_u16(), 200);
        // The body's end gives the place up.
        drop(response.into_body().collect().await.unwrap());
    }
}

#[tokio::test]
async fn requests_wait_for_an_endpoint_that_never_shakes_hands_twice_as_long_as_for_one_at_most() {
    const LIMIT: Duration = Duration::from_millis(500);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, der) = encrypted("web.shop.svc", &[b"h2"]);
    let transport = tls(HttpVersion::Two, "web.shop.svc", &der);
    let mut plan = plan(listener.local_addr().unwrap(), transport);
    plan.limits.upstream_connect = LIMIT;
    let proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let mut asked = JoinSet::new();
    for _ in 0..10 {
        let mut sender = sender.clone();
        let request = Request::get("http://shop.test/").body(Body::default()).unwrap();
        asked.spawn(async move { sender.send_request(request).await.unwrap().status() });
    }
    let began = Instant::now();
    let statuses = timeout(HANGS, asked.join_all()).await.unwrap();
    // One after the other they would take ten times as long as one.
    assert!(began.elapsed() < 6 * LIMIT, "{:?}", began.elapsed());
    assert!(statuses.iter().all(|status| *status == StatusCode::BAD_GATEWAY), "{statuses:?}");
}
