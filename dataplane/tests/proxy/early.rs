//! Answers that come before their requests have: what is left of the body is waited for a while, and
//! not at all where nobody reads it.

use std::time::Duration;

use dataplane::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, read_until};

const SHORT: Duration = Duration::from_millis(80);
const LONG: Duration = Duration::from_hours(1);

/// More than anybody sends here.
const ENDLESS: usize = 1_000_000_000_000;

/// The beginning of a request with so long a body.
fn beginning(host: &str, length: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\nhalf")
}

/// A whole answer.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly";

/// A client that has its answer already, and its upstream.
async fn answered(limits: Limits, length: usize) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits = limits;
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(beginning("shop.test", length).as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "half").await;
    upstream.write_all(ANSWER).await.unwrap();
    read_until(&mut client, "early").await;
    (proxy, client, upstream)
}

/// Sends a byte now and then, as long as the connection is open.
async fn trickle(client: &mut TcpStream) {
    let (mut answers, mut bytes) = client.split();
    let trickle = async {
        while bytes.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let closed = async {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = answers.read_to_end(&mut rest).await;
    };
    let both = timeout(HANGS, futures::future::join(trickle, closed)).await;
    assert!(both.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn a_body_that_goes_on_behind_its_answer_is_not_taken_for_a_slow_head() {
    let limits = Limits { header_read: SHORT, keep_alive_idle: SHORT, ..Limits::default() };
    let (proxy, mut client, mut upstream) = answered(limits, 9).await;
    client.write_all(b"more").await.unwrap();
    read_until(&mut upstream, "more").await;
    // Whoever begins a head only now is closed later than the first would be.
    let mut slow = TcpStream::connect(proxy.http()).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut nothing = Vec::new();
    timeout(HANGS, slow.read_to_end(&mut nothing)).await.unwrap().unwrap();
    proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"header-timeout\"}", 1).await;
    client.write_all(b"zGET /next HTTP/1.1\r\nhost: office.test\r\n\r\n").await.unwrap();
    read_until(&mut upstream, "z").await;
    read_until(&mut client, "HTTP/1.1 403 ").await;
}

#[tokio::test]
async fn a_body_that_trickles_behind_its_answer_is_broken_off() {
    let limits = Limits {
        body_rate_grace: SHORT,
        header_read: LONG,
        keep_alive_idle: LONG,
        ..Limits::default()
    };
    let (proxy, mut client, _upstream) = answered(limits, ENDLESS).await;
    trickle(&mut client).await;
    proxy.metric_becomes("whygate_connections", 0).await;
}

#[tokio::test]
async fn a_body_that_stops_behind_its_answer_is_broken_off_with_its_connection() {
    let limits = Limits { body_rate_grace: SHORT, keep_alive_idle: LONG, ..Limits::default() };
    let (proxy, mut client, mut upstream) = answered(limits, ENDLESS).await;
    for open in [&mut client, &mut upstream] {
        let closed = timeout(HANGS, open.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "the connection is still open");
    }
    proxy.metric_becomes("whygate_connections", 0).await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_any_more_is_not_waited_for() {
    let limits = Limits { keep_alive_idle: LONG, ..Limits::default() };
    let (proxy, mut client, upstream) = answered(limits, ENDLESS).await;
    drop(upstream);
    let mut rest = Vec::new();
    let closed = timeout(HANGS, client.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still open");
    proxy.metric_becomes("whygate_connections", 0).await;
}

#[tokio::test]
async fn who_is_refused_does_not_hold_the_connection_by_a_slow_body() {
    let mut plan = Plan::new(&[]);
    let limits = Limits { header_read: LONG, keep_alive_idle: LONG, ..Limits::default() };
    plan.limits = Limits { body_idle: LONG, transfer_idle: LONG, ..limits };
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(beginning("office.test", ENDLESS).as_bytes()).await.unwrap();
    read_until(&mut client, "HTTP/1.1 403 ").await;
    trickle(&mut client).await;
    proxy.metric_becomes("whygate_connections", 0).await;
}
