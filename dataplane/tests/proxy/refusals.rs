//! Endpoints of HTTP/2 that refuse a request without a look, told frame by frame, and where it goes then.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use decision::transport::{HttpVersion, Transport};
use http::Request;
use http_body_util::Empty;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::support::{HANGS, Plan, http2_client, nobody, raw};

/// A frame without content: the type, flags, stream, payload (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A whole answer without a body, of status 200 (RFC 7541 appendix A, index 8).
fn ok(stream: u8) -> Vec<u8> {
    frame(1, 5, stream, &[0x88])
}

/// `RST_STREAM` for this reason.
fn reset(stream: u8, reason: u8) -> Vec<u8> {
    frame(3, 0, stream, &[0, 0, 0, reason])
}

/// GOAWAY without an error: nothing behind this stream was looked at.
fn go_away(last: u8) -> Vec<u8> {
    frame(7, 0, 0, &[0, 0, 0, last, 0, 0, 0, 0])
}

const REFUSED: u8 = 7;
const CANCELLED: u8 = 8;

/// An endpoint that says for each connection what it does about each request there.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Endpoint {
    async fn start(connections: Vec<Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&opened);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            for replies in connections {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                open.spawn(reply(stream, replies));
            }
            open.join_all().await;
        });
        Self { address, connections: opened, _task: task }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::new(&[self.address]);
        plan.transport = Transport { http: HttpVersion::Two, tls: None };
        plan
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Says what it does about each request, and then waits for the end.
async fn reply(mut stream: TcpStream, replies: Vec<Vec<u8>>) {
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let mut replies = replies.into_iter();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            stream.write_all(&replies.next().unwrap_or_default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_an_endpoint_refused_without_a_look_is_sent_once_more_if_it_has_no_body() {
    for (first, request, expected) in [
        (go_away(0), "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n", "200"),
        (
            reset(1, REFUSED),
            "POST / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
            "200",
        ),
        // What was read of a body cannot be read again.
        (
            reset(1, REFUSED),
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            "502",
        ),
        // Cancelled, which it may have been in the middle of.
        (
            reset(1, CANCELLED),
            "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
            "502",
        ),
    ] {
        let endpoint = Endpoint::start(vec![vec![first.clone()], vec![ok(1)]]).await;
        let proxy = endpoint.plan().start();
        let answer = timeout(HANGS, raw(proxy.http(), request)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{first:?} {answer}");
        let again = usize::from(expected == "200");
        assert_eq!(endpoint.connections(), 1 + again);
        assert_eq!(proxy.metric("whygate_upstream_retries_total"), u64::try_from(again).unwrap());
        assert_eq!(proxy.metric("whygate_permits_total"), 1);
    }
}

#[tokio::test]
async fn where_an_endpoint_closes_one_connection_the_others_are_not_tried() {
    // Two are open as soon as one refused a request, and then both end: only a third one serves.
    let endpoint = Endpoint::start(vec![
        vec![reset(1, REFUSED), go_away(1)],
        vec![ok(1), go_away(1)],
        vec![ok(1)],
    ])
    .await;
    let proxy = endpoint.plan().start();
    let two = "GET /1 HTTP/1.1\r\nhost: shop.test\r\n\r\nGET /2 HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    let answers = timeout(HANGS, raw(proxy.http(), two)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert_eq!(endpoint.connections(), 3);
    assert_eq!(proxy.metric("whygate_upstream_retries_total"), 2);
}

#[tokio::test]
async fn a_second_try_that_comes_to_a_closing_connection_opens_another() {
    const COUNT: usize = 8;
    // Each connection closes as soon as it has a request, which it keeps.
    let endpoint = Endpoint::start(vec![vec![go_away(1)]; COUNT]).await;
    let mut plan = Plan::new(&[nobody().await, endpoint.address]);
    plan.transport = endpoint.plan().transport;
    let proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let mut asked = JoinSet::new();
    for count in 1..=COUNT {
        let mut sender = sender.clone();
        let request = Request::get("http://shop.test/").body(Empty::<Bytes>::new()).unwrap();
        asked.spawn(async move { sender.send_request(request).await });
        let came = async {
            while endpoint.connections() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANGS, came).await.unwrap();
    }
    assert!(asked.try_join_next().is_none(), "none was answered");
}

/// What an endpoint has seen that answers what was given up, as one does at a distance.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    resets: AtomicUsize,
}

async fn answer_late(mut stream: TcpStream, seen: Arc<Seen>) {
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            1 => drop(seen.requests.fetch_add(1, Ordering::SeqCst)),
            3 => {
                let [.., a, b, c, d] = head;
                let answer = [&[0, 0, 1, 1, 5, a, b, c, d][..], &[0x88]].concat();
                drop(stream.write_all(&answer).await);
                seen.resets.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn requests_that_are_given_up_end_no_connection() {
    const AT_ONCE: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.transport = Transport { http: HttpVersion::Two, tls: None };
    let proxy = plan.start();
    let seen = Arc::new(Seen::default());
    let counts = Arc::clone(&seen);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            counts.connections.fetch_add(1, Ordering::SeqCst);
            open.spawn(answer_late(stream, Arc::clone(&counts)));
        }
    });
    let reaches = async |count: &AtomicUsize, value| {
        let reached = async {
            while count.load(Ordering::SeqCst) < value {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANGS, reached).await.unwrap();
    };
    for wave in 1..=26 {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            let mut client = TcpStream::connect(proxy.http()).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        reaches(&seen.requests, wave * AT_ONCE).await;
        drop(clients);
        reaches(&seen.resets, wave * AT_ONCE).await;
    }
    let connections = seen.connections.load(Ordering::SeqCst);
    assert!(connections <= 2, "{connections}, more than one for each thread");
}
