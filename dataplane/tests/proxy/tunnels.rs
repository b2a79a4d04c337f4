//! Tunnels of `WebSocket` and other switched connections, and long responses: judged when they begin, and again
//! when policies change.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use decision::{
    policy::Enforcement, protection::Posture, route::Route, snapshot::Snapshot, uncovered::OpenBy,
};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, Upstream, read_to_end, read_until, require, snapshot};

const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: yes\r\nkeep-alive: 5\r\n\r\n";

fn asks(host: &str, headers: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive, Upgrade\r\n{headers}\r\n"
    )
}

fn open() -> Posture {
    Posture::Open(OpenBy::Flag)
}

/// A client and its upstream, switched.
pub(crate) struct Tunnel {
    pub(crate) client: TcpStream,
    pub(crate) upstream: TcpStream,
    asked: String,
    told: String,
}

pub(crate) async fn tunnel(proxy: &Proxy, listener: &TcpListener, protocol: &str) -> Tunnel {
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let request = asks("shop.test", &format!("upgrade: {protocol}\r\nsec-websocket-key: k\r\n"));
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut upstream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    let asked = read_until(&mut upstream, "\r\n\r\n").await;
    let switched = String::from_utf8_lossy(SWITCHED).replace("WebSocket", protocol);
    upstream.write_all(switched.as_bytes()).await.unwrap();
    let told = read_until(&mut client, "\r\n\r\n").await;
    Tunnel { client, upstream, asked, told }
}

async fn plan() -> (Plan, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (Plan::new(&[listener.local_addr().unwrap()]), listener)
}

/// What one side gets of what the other one says.
async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    assert_eq!(read_until(to, text).await, text);
}

async fn read_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the last byte is an end, too.
    let _ = timeout(HANGS, stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_websocket_passes_bytes_both_ways_and_ends_with_either_side() {
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let Tunnel { mut client, mut upstream, asked, told } =
        tunnel(&proxy, &listener, "websocket").await;
    assert!(asked.contains("connection: upgrade\r\n"), "{asked}");
    assert!(asked.contains("upgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("sec-websocket-key: k\r\n"), "{asked}");
    assert!(told.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{told}");
    assert!(told.contains("upgrade: websocket\r\n"), "{told}");
    assert!(told.contains("connection: upgrade\r\n"), "{told}");
    assert!(told.contains("sec-websocket-accept: yes\r\n"), "{told}");
    assert!(told.contains("whygate-request-id: "), "{told}");
    assert!(!told.contains("keep-alive"), "{told}");
    passes(&mut client, &mut upstream, "to the upstream").await;
    passes(&mut upstream, &mut client, "to the client").await;
    assert_eq!(proxy.metric("whygate_tunnels"), 1);
    assert_eq!(proxy.metric("whygate_requests_in_flight"), 1);
    assert_eq!(proxy.metric("whygate_permits_total"), 1);
    client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut upstream).await, "", "its end is passed on");
    passes(&mut upstream, &mut client, "half open").await;
    drop(upstream);
    assert_eq!(read_to_end(&mut client).await, "");
    proxy.metric_becomes("whygate_tunnels", 0).await;
    proxy.metric_becomes("whygate_requests_in_flight", 0).await;
}

#[tokio::test]
async fn a_tunnel_carries_more_than_either_side_reads_at_once() {
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let Tunnel { mut client, mut upstream, .. } = tunnel(&proxy, &listener, "tcp").await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        upstream.write_all(&sent).await.unwrap();
        upstream
    });
    let mut got = vec![0; expected.len()];
    timeout(HANGS, client.read_exact(&mut got)).await.unwrap().unwrap();
    assert!(got == expected, "bytes were lost or changed");
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn what_is_sent_before_the_switch_is_not_lost() {
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let request = asks("shop.test", "upgrade: websocket\r\n") + "early";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(&[SWITCHED, b"first"].concat()).await.unwrap();
    assert!(read_until(&mut client, "first").await.ends_with("\r\n\r\nfirst"));
    assert_eq!(read_until(&mut upstream, "early").await, "early");
}

#[tokio::test]
async fn who_is_refused_gets_no_tunnel() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = asks("office.test", "upgrade: websocket\r\n").replace("keep-alive", "close");
    let answer = proxy.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_answers_as_ever() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    for _ in 0..2 {
        client.write_all(asks("shop.test", "upgrade: websocket\r\n").as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "upgrade: websocket\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!((upstream.requests(), upstream.connections()), (2, 1));
}

#[tokio::test]
async fn an_upgrade_that_would_hide_requests_or_is_unclear_is_ignored() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    for wish in [
        "upgrade: h2c",
        "upgrade: H2C-14",
        "upgrade: HTTP/2.0",
        "upgrade: TLS/1.0",
        "upgrade: websocket, h2c",
        "upgrade: websocket\r\nupgrade: h2c",
        "upgrade: a b",
        "upgrade: ",
    ] {
        let request = asks("shop.test", &format!("{wish}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"));
        let answer = proxy.raw(&request.replace("keep-alive", "close")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{wish}: {answer}");
        let (_, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!got.contains("upgrade") && !got.contains("http2-settings"), "{wish}: {got}");
    }
    let unannounced = proxy.get("shop.test", "/", "upgrade: websocket\r\n").await;
    assert!(!unannounced.contains("upgrade"), "{unannounced}");
    let with_body = asks("shop.test", "upgrade: websocket\r\ncontent-length: 2\r\n") + "hi";
    let answer = proxy.raw(&with_body.replace("keep-alive", "close")).await;
    assert!(!answer.contains("upgrade: ") && answer.ends_with("hi"), "{answer}");
}

#[tokio::test]
async fn another_protocol_than_was_asked_for_is_the_upstreams_fault() {
    for named in ["upgrade: tcp\r\n", "upgrade: websocket\r\nupgrade: tcp\r\n", ""] {
        let upstream = Upstream::start(move |_| {
            format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n{named}\r\n")
        })
        .await;
        let mut proxy = Plan::new(&[upstream.address]).start();
        let answer = proxy
            .raw(&asks("shop.test", "upgrade: websocket\r\n").replace("keep-alive", "close"))
            .await;
        assert!(answer.contains("whygate-denial-code: UpstreamMalformed\r\n"), "{named}: {answer}");
        let sample = proxy.samples.recv().await.unwrap();
        assert!(sample.observed.contains("was not asked for"), "{}", sample.observed);
    }
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let (mut plan, listener) = plan().await;
    plan.limits.tunnel_idle = Duration::from_millis(60);
    let proxy = plan.start();
    let Tunnel { mut client, mut upstream, .. } = tunnel(&proxy, &listener, "websocket").await;
    assert_eq!(read_to_end(&mut client).await, "");
    assert_eq!(read_to_end(&mut upstream).await, "");
    proxy.metric_becomes("whygate_tunnels", 0).await;
}

#[tokio::test]
async fn a_policy_that_refuses_closes_its_tunnels_and_says_why() {
    let (plan, listener) = plan().await;
    let mut proxy = plan.start();
    let Tunnel { mut client, mut upstream, .. } = tunnel(&proxy, &listener, "websocket").await;
    let other = require("203.0.113.0/24", Enforcement::Enforce);
    proxy.snapshot.send_replace(Arc::new(snapshot(
        2,
        vec![("shop.test", open()), ("office.test", other.clone())],
    )));
    proxy.metric_becomes("whygate_snapshot_generation", 2).await;
    passes(&mut client, &mut upstream, "still open").await;
    proxy.snapshot.send_replace(Arc::new(snapshot(3, vec![("shop.test", other)])));
    let frame = read_bytes(&mut client).await;
    let reason = [&[0x88, 2 + 17, 0x03, 0xf0], &b"AddressNotAllowed"[..]].concat();
    assert_eq!(frame, reason, "a Close frame of 1008: {}", String::from_utf8_lossy(&frame));
    assert_eq!(read_to_end(&mut upstream).await, "");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(sample.observed.starts_with("closed a tunnel that was open for "), "{sample:?}");
    assert!(sample.observed.contains("127.0.0.1"), "{sample:?}");
    assert_eq!(
        sample.key.policy.as_ref().map(ToString::to_string).unwrap(),
        "AccessPolicy shop/office"
    );
    assert_eq!(proxy.metric("whygate_exchanges_revoked_total"), 1);
    let refusals: u64 = proxy.dataplane.denial_counts().iter().map(|(_, total)| *total).sum();
    assert_eq!(refusals, 1);
}

#[tokio::test]
async fn a_route_that_is_gone_closes_its_tunnels() {
    let (plan, listener) = plan().await;
    let mut proxy = plan.start();
    let Tunnel { mut client, mut upstream, .. } = tunnel(&proxy, &listener, "tcp").await;
    upstream.write_all(b"half a me").await.unwrap();
    read_until(&mut client, "half a me").await;
    proxy.snapshot.send_replace(Arc::default());
    assert_eq!(read_to_end(&mut client).await, "", "another protocol has no words for it");
    let sample = proxy.samples.recv().await.unwrap();
    assert_eq!(sample.key.code.as_str(), "RouteNotFound");
    assert!(sample.key.route.is_some());
}

#[tokio::test]
async fn a_close_frame_never_stands_inside_of_another_frame() {
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let Tunnel { mut client, mut upstream, .. } = tunnel(&proxy, &listener, "websocket").await;
    upstream.write_all(b"\x81\x0ahalf").await.unwrap();
    let mut got = [0; 6];
    client.read_exact(&mut got).await.unwrap();
    proxy.snapshot.send_replace(Arc::default());
    assert_eq!(read_bytes(&mut client).await, b"");
}

#[tokio::test]
async fn a_long_response_is_closed_when_its_request_would_be_refused() {
    let (mut plan, listener) = plan().await;
    plan.limits.long_exchange = Duration::from_millis(20);
    let mut proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(b"GET /events HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
    upstream.write_all(head).await.unwrap();
    read_until(&mut client, "one\r\n").await;
    let old = Arc::downgrade(&route(&proxy.snapshot.borrow()));
    proxy.snapshot.send_replace(Arc::new(snapshot(2, vec![("shop.test", open())])));
    becomes_free(&[old]).await;
    upstream.write_all(b"3\r\ntwo\r\n").await.unwrap();
    assert_eq!(read_until(&mut client, "two\r\n").await, "3\r\ntwo\r\n");
    let refusing = require("203.0.113.0/24", Enforcement::Enforce);
    proxy.snapshot.send_replace(Arc::new(snapshot(3, vec![("shop.test", refusing)])));
    assert_eq!(read_to_end(&mut client).await, "", "broken off, not ended");
    assert_eq!(read_to_end(&mut upstream).await, "");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(sample.observed.starts_with("closed a response that was open for "), "{sample:?}");
}

fn route(snapshot: &Snapshot) -> Arc<Route> {
    let host = decision::host::Host::parse("shop.test").unwrap();
    Arc::clone(snapshot.routes.find(&host, "/").unwrap())
}

async fn becomes_free(routes: &[Weak<Route>]) {
    let free = async {
        while routes.iter().any(|route| route.upgrade().is_some()) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(HANGS, free).await.is_ok(), "something keeps a route of an old snapshot");
}

#[tokio::test]
async fn a_tunnel_takes_no_room_from_requests() {
    let (mut plan, listener) = plan().await;
    plan.limits.upstream_connections = 1;
    let proxy = plan.start();
    let mut open = Vec::new();
    // However they are spread over the data threads, one thread has two of them.
    for _ in 0..3 {
        open.push(tunnel(&proxy, &listener, "websocket").await);
    }
    assert_eq!(proxy.metric("whygate_upstream_waits_total"), 0);
}

/// Each was opened under a snapshot of its own, and none of them keeps it.
#[tokio::test]
async fn open_tunnels_keep_no_old_snapshot() {
    const COUNT: u64 = 200;
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let (mut tunnels, mut routes) = (Vec::new(), Vec::new());
    for generation in 2..2 + COUNT {
        routes.push(Arc::downgrade(&route(&proxy.snapshot.borrow())));
        tunnels.push(tunnel(&proxy, &listener, "websocket").await);
        proxy.snapshot.send_replace(Arc::new(snapshot(generation, vec![("shop.test", open())])));
    }
    proxy.metric_becomes("whygate_tunnels", COUNT).await;
    becomes_free(&routes).await;
    for Tunnel { client, upstream, .. } in &mut tunnels {
        passes(client, upstream, "still open").await;
    }
}

#[tokio::test]
async fn a_stop_tells_websockets_and_gives_them_the_grace() {
    let (plan, listener) = plan().await;
    let proxy = plan.start();
    let mut polite = tunnel(&proxy, &listener, "websocket").await;
    let mut rude = tunnel(&proxy, &listener, "websocket").await;
    let stopping =
        tokio::spawn(async move { proxy.dataplane.stop(Duration::from_millis(400)).await });
    for tunnel in [&mut polite, &mut rude] {
        let mut head = [0; 4];
        timeout(HANGS, tunnel.client.read_exact(&mut head)).await.unwrap().unwrap();
        assert_eq!((head[0], head[2..].to_vec()), (0x88, vec![0x03, 0xe9]), "a Close of 1001");
    }
    passes(&mut polite.client, &mut polite.upstream, "the client's Close").await;
    polite.client.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut polite.upstream).await, "");
    let stopped = timeout(HANGS, stopping).await.unwrap().unwrap();
    assert_eq!(stopped.lost, 1, "who does not react is lost with the process");
    read_bytes(&mut rude.client).await;
}

/// A request for a tunnel on a stream of HTTP/2.
fn connect(host: &str, protocol: &'static str) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://{host}/chat"));
    let request = request.header("sec-websocket-version", "13");
    request.extension(Protocol::from_static(protocol)).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_stream_of_http2_becomes_no_websocket_unless_the_upstream_switches() {
    for (answered, told) in [("204 No Content", 502), ("200 OK", 502), ("403 Forbidden", 403)] {
        let upstream =
            Upstream::start(move |_| format!("HTTP/1.1 {answered}\r\nx-from: upstream\r\n\r\n"))
                .await;
        let mut proxy = Plan::new(&[upstream.address]).start();
        let stream = TcpStream::connect(proxy.http()).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        // Whether it is offered is known once the settings have come.
        let plain = Request::get("http://shop.test/").body(Empty::new()).unwrap();
        timeout(HANGS, sender.send_request(plain)).await.unwrap().unwrap();
        let asked = timeout(HANGS, sender.send_request(connect("shop.test", "websocket"))).await;
        let response = asked.unwrap().unwrap();
        assert_eq!(response.status().as_u16(), told, "{answered}");
        assert_eq!(response.headers().contains_key("x-from"), told != 502, "{answered}");
        if told == 502 {
            let sample = proxy.samples.recv().await.unwrap();
            assert!(sample.observed.contains("without switching"), "{}", sample.observed);
        }
    }
}

#[tokio::test]
async fn a_stream_of_http2_becomes_a_websocket() {
    let (plan, listener) = plan().await;
    let mut proxy = plan.start();
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    // Whether it is offered is known once the settings have come.
    let refused = timeout(HANGS, sender.send_request(connect("office.test", "websocket"))).await;
    assert_eq!(refused.unwrap().unwrap().status(), StatusCode::FORBIDDEN);
    let other = timeout(HANGS, sender.send_request(connect("shop.test", "connect-udp"))).await;
    assert_eq!(other.unwrap().unwrap().status(), StatusCode::BAD_REQUEST);
    let asked = tokio::spawn(sender.send_request(connect("shop.test", "websocket")));
    let (mut upstream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    let got = read_until(&mut upstream, "\r\n\r\n").await;
    assert!(got.starts_with("GET /chat HTTP/1.1\r\n"), "{got}");
    for header in
        ["upgrade: websocket\r\n", "connection: upgrade\r\n", "sec-websocket-version: 13\r\n"]
    {
        assert!(got.contains(header), "{header} in {got}");
    }
    let key = got.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    assert_eq!(key.len(), 24, "{key}");
    upstream.write_all(SWITCHED).await.unwrap();
    let response = timeout(HANGS, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    client.write_all(b"up").await.unwrap();
    assert_eq!(read_until(&mut upstream, "up").await, "up");
    upstream.write_all(b"\x81\x02hi").await.unwrap();
    let mut got = [0; 4];
    timeout(HANGS, client.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"\x81\x02hi");
    proxy.snapshot.send_replace(Arc::default());
    let mut frame = Vec::new();
    timeout(HANGS, client.read_to_end(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[..4], [0x88, 15, 0x03, 0xf0]);
    let refused = std::iter::from_fn(|| proxy.samples.try_recv().ok()).last().unwrap();
    assert_eq!(refused.key.code.as_str(), "RouteNotFound");
    proxy.metric_becomes("whygate_tunnels", 0).await;
}
