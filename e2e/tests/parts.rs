//! The harness's own parts, tried on each other: what breaks here would make every other test lie.
#![expect(clippy::unwrap_used, reason = "the first surprise ends the test")]

use std::convert::Infallible;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use http::{Method, Response, Version};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use e2e::client::{empty, full, request};
use e2e::upstream::Echo;
use e2e::{
    Authority, Client, FaultProxy, Protocol, StrictUpstream, Upstream, address, eventually, raw,
};

e2e::suite!(
    needs: [],
    tests: [
        echo_tells_what_it_received_and_from_where,
        one_connection_carries_many_requests,
        request_on_a_cut_connection_fails_and_the_next_one_passes,
        refusing_proxy_refuses_at_once_and_passes_again_on_the_same_port,
        black_hole_holds_bytes_back_and_delivers_them_later,
        strict_upstream_takes_what_has_one_reading,
        strict_upstream_refuses_every_ambiguous_framing,
        client_greets_with_a_name_and_shows_its_certificate_in_both_versions,
        client_trusts_nobody_but_the_authority_it_was_given,
        nothing_outside_of_the_namespace_can_be_reached,
        temporary_files_lie_in_memory_that_nobody_else_sees,
        eventually_says_which_sentence_did_not_come_true,
    ],
);

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

fn any_port(third: u8, fourth: u8) -> SocketAddr {
    (address(third, fourth), 0).into()
}

async fn echo_tells_what_it_received_and_from_where() -> anyhow::Result<()> {
    let upstream = Upstream::start(any_port(1, 1), "first").await?;
    let client = Client::new(upstream.address()).from(address(9, 9));
    let posted =
        request(Method::POST, "a.test", "/x?y=1").header("x-one", "1").header("x-one", "2");
    let answer = client.send(posted.body(full("hello"))?).await?;
    let echo: Echo = answer.json()?;
    assert_eq!(
        (echo.upstream.as_str(), echo.method.as_str(), echo.uri.as_str(), echo.body_length),
        ("first", "POST", "/x?y=1", 5)
    );
    assert_eq!(echo.header("x-one"), ["1", "2"]);
    assert_eq!(echo.header("host"), ["a.test"]);
    assert_eq!(echo.peer.parse::<SocketAddr>()?.ip(), IpAddr::from(address(9, 9)));
    assert_eq!(upstream.requests(), 1);
    Ok(())
}

async fn one_connection_carries_many_requests() -> anyhow::Result<()> {
    let upstream = Upstream::start(any_port(1, 2), "kept").await?;
    let mut connection = Client::new(upstream.address()).connect("a.test").await?;
    for _ in 0..5 {
        let answer = connection.send(request(Method::GET, "a.test", "/").body(empty())?).await?;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((upstream.requests(), upstream.connections()), (5, 1));
    Ok(())
}

async fn request_on_a_cut_connection_fails_and_the_next_one_passes() -> anyhow::Result<()> {
    let upstream = Upstream::start(any_port(1, 3), "behind").await?;
    let proxy = FaultProxy::start(any_port(1, 4), upstream.address())?;
    let client = Client::new(proxy.address());
    let mut connection = client.connect("a.test").await?;
    connection.send(request(Method::GET, "a.test", "/").body(empty())?).await?;

    proxy.cut();
    eventually(LONG, "the client sees the cut", async || {
        ensure!(connection.is_closed(), "still open");
        Ok(())
    })
    .await?;
    assert_eq!(client.get("a.test", "/").await?.status, 200);
    assert_eq!((proxy.accepted(), upstream.requests()), (2, 2));
    Ok(())
}

async fn refusing_proxy_refuses_at_once_and_passes_again_on_the_same_port() -> anyhow::Result<()> {
    let upstream = Upstream::start(any_port(1, 5), "behind").await?;
    let mut proxy = FaultProxy::start(any_port(1, 6), upstream.address())?;
    for _ in 0..3 {
        proxy.refuse().await?;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.pass().await?;
        assert_eq!(Client::new(proxy.address()).get("a.test", "/").await?.status, 200);
    }
    Ok(())
}

async fn black_hole_holds_bytes_back_and_delivers_them_later() -> anyhow::Result<()> {
    let upstream = Upstream::start(any_port(1, 7), "behind").await?;
    let mut proxy = FaultProxy::start(any_port(1, 8), upstream.address())?;
    let mut connection = Client::new(proxy.address()).connect("a.test").await?;
    proxy.black_hole().await?;
    let asked = connection.send(request(Method::GET, "a.test", "/").body(empty())?);
    tokio::pin!(asked);
    assert!(timeout(SHORT, &mut asked).await.is_err(), "a black hole answered");
    assert_eq!(upstream.requests(), 0);

    proxy.pass().await?;
    assert_eq!(asked.await?.status, 200);
    Ok(())
}

async fn strict_upstream_takes_what_has_one_reading() -> anyhow::Result<()> {
    let upstream = StrictUpstream::start(any_port(2, 1)).await?;
    let requests = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi\
        POST /b HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
        GET /c HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let received = raw::send(upstream.address(), requests, SHORT).await?;
    assert_eq!(received.statuses(), [200, 200, 200], "{:?}", upstream.violations());
    let targets: Vec<String> = upstream.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/a", "/b", "/c"]);
    assert!(upstream.requests().iter().take(2).all(|seen| seen.body == b"hi"));
    Ok(())
}

async fn strict_upstream_refuses_every_ambiguous_framing() -> anyhow::Result<()> {
    let upstream = StrictUpstream::start(any_port(2, 2)).await?;
    let ambiguous = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    ];
    for bytes in ambiguous {
        let received = raw::send(upstream.address(), bytes.as_bytes(), LONG).await?;
        assert_eq!((received.statuses(), received.closed), (vec![400], true), "{bytes:?}");
    }
    assert_eq!((upstream.requests().len(), upstream.violations().len()), (0, ambiguous.len()));
    Ok(())
}

async fn client_greets_with_a_name_and_shows_its_certificate_in_both_versions() -> anyhow::Result<()>
{
    let authority = Authority::new("tests")?;
    let server = tls_server(&authority, any_port(3, 1)).await?;
    let client = Client::new(server).trusting(&authority)?.identified_by(authority.client("ann")?);
    for (protocol, version) in
        [(Protocol::Http1, Version::HTTP_11), (Protocol::Http2, Version::HTTP_2)]
    {
        let client = client.clone().speaking(protocol);
        let answer = client.get("a.test", "/").await?;
        assert_eq!(
            (answer.text().as_str(), answer.version),
            ("a.test with 1 certificate", version)
        );
        let answer = client.greeting("b.test").get("a.test", "/").await?;
        assert_eq!(answer.text(), "b.test with 1 certificate");
    }
    Ok(())
}

async fn client_trusts_nobody_but_the_authority_it_was_given() -> anyhow::Result<()> {
    let server = tls_server(&Authority::new("tests")?, any_port(3, 2)).await?;
    let client = Client::new(server).trusting(&Authority::new("tests")?)?;
    let error = format!("{:#}", client.get("a.test", "/").await.unwrap_err());
    assert!(error.contains("invalid peer certificate"), "{error}");
    Ok(())
}

/// A server for `a.test` and `b.test` that answers the name in the greeting and how many
/// certificates the client has shown.
async fn tls_server(authority: &Authority, listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let (chain, key) = authority.server(&["a.test", "b.test"])?.decoded()?;
    let mut trust = RootCertStore::empty();
    trust.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(trust.into(), Arc::clone(&provider));
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.build()?)
        .with_single_cert(chain, key)?;
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that trusts somebody else ends the handshake: its test looks at the client.
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve_tls(stream));
            }
        }
    });
    Ok(address)
}

async fn serve_tls(stream: TlsStream<TcpStream>) {
    let session = stream.get_ref().1;
    let shown = session.peer_certificates().map_or(0, <[_]>::len);
    let text = format!("{} with {shown} certificate", session.server_name().unwrap_or_default());
    let service = service_fn(move |_| {
        std::future::ready(Ok::<_, Infallible>(Response::new(full(text.clone()))))
    });
    let http2 = session.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if http2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service).await;
    }
}

async fn nothing_outside_of_the_namespace_can_be_reached() -> anyhow::Result<()> {
    // The first address of the documentation range TEST-NET-1 (RFC 5737): nobody has it, and
    // without a way out the kernel says so before a packet is made.
    let away = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80));
    let refused = TcpStream::connect(away).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NetworkUnreachable);
    let local = TcpListener::bind("[2001:db8::5]:0").await?.local_addr()?;
    assert_eq!(local.ip().to_string(), "2001:db8::5");
    Ok(())
}

async fn temporary_files_lie_in_memory_that_nobody_else_sees() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mine = mounts.lines().find(|line| line.starts_with("whygate-e2e ")).unwrap();
    assert!(folder.path().starts_with(mine.split(' ').nth(1).unwrap()), "{mine}");
    Ok(())
}

async fn eventually_says_which_sentence_did_not_come_true() -> anyhow::Result<()> {
    let error = eventually(SHORT, "pigs fly", async || -> anyhow::Result<()> { bail!("no wings") });
    let error = format!("{:#}", error.await.unwrap_err());
    assert!(error.contains("pigs fly") && error.contains("no wings"), "{error}");
    Ok(())
}
