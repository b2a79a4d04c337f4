//! TLS by host, replaced while it runs; HTTP/2 by agreement and by prior knowledge.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use dataplane::{Certificate, Certificates};
use decision::{host::HostPattern, options::Options};
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{HANGS, Plan, Proxy, Upstream, read_until};

/// A certificate of its own making for one name.
pub(crate) fn certificate(name: &str) -> (Arc<CertifiedKey>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let der = made.cert.der().clone();
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    (Arc::new(CertifiedKey::new(vec![der.clone()], key)), der)
}

pub(crate) fn table(entries: &[(&str, &Arc<CertifiedKey>)]) -> Certificates {
    let entry = |(host, key): &(&str, &Arc<CertifiedKey>)| {
        (HostPattern::parse(host).unwrap(), Certificate { key: Arc::clone(key), until: None })
    };
    Certificates::new(entries.iter().map(entry), None)
}

pub(crate) async fn connect(
    address: SocketAddr,
    name: &str,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(HANGS, TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
}

fn with_certificates(upstream: &Upstream, certificates: Certificates) -> Proxy {
    let mut plan = Plan::new(&[upstream.address]);
    plan.certificates = certificates;
    plan.start()
}

#[tokio::test]
async fn each_host_has_its_certificate_and_a_strange_one_none() {
    let upstream = Upstream::echo().await;
    let (exact, exact_der) = certificate("shop.test");
    let (wildcard, wildcard_der) = certificate("*.shop.test");
    let table = table(&[("*.shop.test", &wildcard), ("shop.test", &exact)]);
    let proxy = with_certificates(&upstream, table);
    let mut stream = connect(proxy.https(), "shop.test", &exact_der, "http/1.1").await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    timeout(HANGS, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    assert!(answer.contains("x-forwarded-port: 443\r\n"), "{answer}");
    assert!(connect(proxy.https(), "a.shop.test", &wildcard_der, "h2").await.is_ok());
    assert!(connect(proxy.https(), "a.b.shop.test", &wildcard_der, "h2").await.is_err());
    proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"tls\"}", 1).await;
}

#[tokio::test]
async fn the_cheapest_suite_is_agreed_on_whatever_the_client_likes_better() {
    let upstream = Upstream::echo().await;
    let (key, der) = certificate("shop.test");
    let proxy = with_certificates(&upstream, table(&[("shop.test", &key)]));
    let first = aws_lc_rs::default_provider().cipher_suites[0].suite();
    assert_eq!(first, CipherSuite::TLS13_AES_256_GCM_SHA384, "what the client likes best");
    let stream = connect(proxy.https(), "shop.test", &der, "http/1.1").await.unwrap();
    let agreed = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(agreed, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[tokio::test]
async fn hsts_is_on_every_answer_over_tls_and_never_in_plain_text() {
    let upstream = Upstream::echo().await;
    let (shop, shop_der) = certificate("shop.test");
    let (office, office_der) = certificate("office.test");
    let mut plan = Plan::new(&[upstream.address]);
    plan.certificates = table(&[("shop.test", &shop), ("office.test", &office)]);
    for host in ["shop.test", "office.test"] {
        let hsts = Some(http::HeaderValue::from_static("max-age=300"));
        plan.options.insert(host, Arc::new(Options { hsts, ..Options::default() }));
    }
    let proxy = plan.start();
    for (host, der, status) in [("shop.test", shop_der, "200"), ("office.test", office_der, "403")]
    {
        let mut stream = connect(proxy.https(), host, &der, "http/1.1").await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(HANGS, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("\r\nstrict-transport-security: max-age=300\r\n"), "{answer}");
        let answer = proxy.get(host, "/", "").await;
        assert!(!answer.contains("strict-transport-security"), "{answer}");
    }
}

#[tokio::test]
async fn a_new_certificate_serves_the_next_handshake() {
    let upstream = Upstream::echo().await;
    let (old, old_der) = certificate("shop.test");
    let (new, new_der) = certificate("shop.test");
    let proxy = with_certificates(&upstream, table(&[("shop.test", &old)]));
    assert!(connect(proxy.https(), "shop.test", &old_der, "h2").await.is_ok());
    proxy.certificates.send_replace(Arc::new(table(&[("shop.test", &new)])));
    let replaced =
        async { while connect(proxy.https(), "shop.test", &new_der, "h2").await.is_err() {} };
    timeout(HANGS, replaced).await.unwrap();
    let gone = Certificates::default().without([HostPattern::parse("shop.test").unwrap()]);
    proxy.certificates.send_replace(Arc::new(gone));
    let closed =
        async { while connect(proxy.https(), "shop.test", &new_der, "h2").await.is_ok() {} };
    timeout(HANGS, closed).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_outlived_its_secret_serves_until_it_expires() {
    let upstream = Upstream::echo().await;
    let (kept, der) = certificate("shop.test");
    let now = SystemTime::now();
    for (until, served) in [
        (now.checked_add(Duration::from_hours(1)), true),
        (now.checked_sub(Duration::from_secs(1)), false),
    ] {
        let entry = Certificate { key: Arc::clone(&kept), until };
        let host = HostPattern::parse("shop.test").unwrap();
        let table = Certificates::new([(host, entry.clone())], None);
        let proxy = with_certificates(&upstream, table);
        assert_eq!(connect(proxy.https(), "shop.test", &der, "h2").await.is_ok(), served);
        let proxy = with_certificates(&upstream, Certificates::new([], Some(entry)));
        assert_eq!(connect(proxy.https(), "shop.test", &der, "h2").await.is_ok(), served);
    }
}

#[tokio::test]
async fn http2_is_agreed_on_and_multiplexed() {
    let upstream = Upstream::echo().await;
    let (key, der) = certificate("shop.test");
    let proxy = with_certificates(&upstream, table(&[("shop.test", &key)]));
    let stream = connect(proxy.https(), "shop.test", &der, "h2").await.unwrap();
    check_http2(stream, "https").await;
}

#[tokio::test]
async fn http2_is_spoken_on_plain_connections_by_prior_knowledge() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    check_http2(TcpStream::connect(proxy.http()).await.unwrap(), "http").await;
}

pub(crate) async fn check_http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    scheme: &str,
) {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let requests = (0..20).map(|number| {
        let mut sender = sender.clone();
        async move {
            let body = Full::new(Bytes::from(vec![b'x'; number]));
            let uri = format!("{scheme}://shop.test/{number}");
            let request = Request::post(uri).header("cookie", "a=1").header("cookie", "b=2");
            let request = request.body(body).unwrap();
            let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
            assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
            assert!(response.headers().contains_key("whygate-request-id"));
            let text = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.starts_with(&format!("POST /{number} HTTP/1.1\r\n")), "{text}");
            assert!(text.contains("via: 2.0 whygate\r\n"), "{text}");
            assert!(text.contains("cookie: a=1; b=2\r\n"), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{}", "x".repeat(number))), "{text}");
        }
    });
    futures::future::join_all(requests).await;
}

#[tokio::test]
async fn draining_ends_http2_connections_once_their_requests_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://shop.test/").body(Full::new(Bytes::new())).unwrap();
    let response = tokio::spawn(sender.send_request(request));
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    proxy.dataplane.start_draining();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    let response = timeout(HANGS, response).await.unwrap().unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    timeout(HANGS, connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_head_on_http2_has_no_body() {
    let proxy = Plan::new(&[]).start();
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let request = Request::head("http://office.test/").body(Full::new(Bytes::new())).unwrap();
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}
