//! Exchanges that take long because their client takes nothing or sends for long: what they may
//! hold meanwhile, and that policies go on to be asked.

use std::{convert::Infallible, net::SocketAddr, num::NonZeroU32, time::Duration};

use bytes::Bytes;
use decision::{
    policy::Enforcement,
    protection::Posture,
    transport::{HttpVersion, Transport},
    uncovered::OpenBy,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, read_to_end, read_until, require, snapshot};

const SOON: Duration = Duration::from_millis(50);
/// More than all buffers on the way hold, those of sockets among them.
const LARGE: usize = 64 * 1024 * 1024;
const STALLED: &str = "whygate_hyper_rejected_total{reason=\"stalled\"}";

/// A client of HTTP/2 that takes no more of a body than it reads.
async fn client(proxy: &Proxy) -> (SendRequest<Empty<Bytes>>, JoinSet<()>) {
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535).initial_connection_window_size(16 * 1024 * 1024);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    (sender, tasks)
}

async fn body(sender: &mut SendRequest<Empty<Bytes>>) -> Incoming {
    let request = Request::get("http://shop.test/large").body(Empty::new()).unwrap();
    timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap().into_body()
}

/// An upstream that answers each connection with a body that never ends; tells when one of them was
/// closed.
struct Endless {
    address: SocketAddr,
    closed: mpsc::Receiver<()>,
    _task: JoinSet<()>,
}

impl Endless {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, closed) = mpsc::channel(8);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let sender = sender.clone();
                open.spawn(async move {
                    read_until(&mut stream, "\r\n\r\n").await;
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    while stream.write_all(&[b'x'; 16_384]).await.is_ok() {}
                    sender.send(()).await.unwrap();
                });
            }
        });
        Self { address, closed, _task: task }
    }

    async fn is_closed(&mut self) {
        timeout(HANGS, self.closed.recv()).await.unwrap().unwrap();
    }
}

/// The same of HTTP/2.
async fn endless_http2() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        let all = Bytes::from(vec![b'x'; LARGE]);
        while let Ok((stream, _)) = listener.accept().await {
            let all = all.clone();
            let answer = service_fn(move |_| {
                let response = Response::new(Full::new(all.clone()));
                async { Ok::<_, Infallible>(response) }
            });
            let serving = server::conn::http2::Builder::new(TokioExecutor::new());
            open.spawn(serving.serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, serving)
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_take_gives_its_upstream_connection_up() {
    let mut upstream = Endless::start().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits.transfer_idle = SOON;
    plan.limits.long_exchange = SOON;
    let proxy = plan.start();
    let (mut sender, _tasks) = client(&proxy).await;
    let mut slow = body(&mut sender).await;
    upstream.is_closed().await;
    proxy.metric_becomes(STALLED, 1).await;
    // The client learns it when it goes on to read.
    let read = async { while slow.frame().await.unwrap().is_ok() {} };
    timeout(HANGS, read).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_take_makes_room_for_who_waits() {
    let mut upstream = Endless::start().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits.upstream_connections = 1;
    plan.limits.upstream_connect = HANGS;
    plan.limits.long_exchange = SOON;
    let proxy = plan.start();
    let (mut sender, _tasks) = client(&proxy).await;
    // Both are of one connection, and so of one data thread.
    let _slow = body(&mut sender).await;
    let _next = body(&mut sender).await;
    upstream.is_closed().await;
    assert_eq!(proxy.metric("whygate_upstream_waits_total"), 1);
    assert_eq!(proxy.metric(STALLED), 1);
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_take_is_closed_when_it_would_be_refused() {
    let mut upstream = Endless::start().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits.long_exchange = SOON;
    let mut proxy = plan.start();
    let (mut sender, _tasks) = client(&proxy).await;
    let _slow = body(&mut sender).await;
    let refusing = require("203.0.113.0/24", Enforcement::Enforce);
    proxy.snapshot.send_replace(snapshot(2, vec![("shop.test", refusing)]).into());
    upstream.is_closed().await;
    let sample = timeout(HANGS, proxy.samples.recv()).await.unwrap().unwrap();
    assert!(sample.observed.starts_with("closed a response that was open for "), "{sample:?}");
}

#[tokio::test]
async fn streams_that_clients_do_not_take_stand_in_nobodys_way_to_an_upstream_of_http2() {
    let (address, _serving) = endless_http2().await;
    let mut plan = Plan::new(&[address]);
    plan.transport = Transport { http: HttpVersion::Two, tls: None };
    plan.limits.streams = NonZeroU32::new(100).unwrap();
    let proxy = plan.start();
    let (mut sender, _tasks) = client(&proxy).await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(body(&mut sender).await);
    }
    let mut last = body(&mut sender).await;
    let mut read = 0;
    while read < 8 * 1024 * 1024 {
        let frame = timeout(HANGS, last.frame()).await.unwrap().unwrap().unwrap();
        read += frame.into_data().unwrap().len();
    }
    assert_eq!(proxy.metric("whygate_upstream_connections_total"), 1);
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_refused_when_policies_come_to_refuse_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits.long_exchange = SOON;
    let proxy = plan.start();
    for request in [
        "GET /poll HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
        "POST /upload HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 10\r\n\r\nhalf",
    ] {
        proxy
            .snapshot
            .send_replace(snapshot(2, vec![("shop.test", Posture::Open(OpenBy::Flag))]).into());
        let mut client = TcpStream::connect(proxy.http()).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        read_until(&mut upstream, "\r\n\r\n").await;
        let refusing = require("203.0.113.0/24", Enforcement::Enforce);
        proxy.snapshot.send_replace(snapshot(3, vec![("shop.test", refusing)]).into());
        let answer = read_to_end(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("AddressNotAllowed"),
            "{answer}"
        );
        // What else it was sent is nobody's.
        let _ = timeout(HANGS, upstream.read_to_end(&mut Vec::new())).await.unwrap();
    }
}
