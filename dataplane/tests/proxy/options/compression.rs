//! Answers that are compressed on their way, and those that are not.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use decision::{
    options::{Options, compression::Coding},
    policy::Enforcement,
};
use flate2::{read::GzDecoder, write};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    HANGS, Plan, Proxy, Upstream, http2_client, read_to_end, read_until, require, snapshot,
};

pub(crate) fn compressing() -> Options {
    Options { compress: Some(Coding::Gzip), ..Options::default() }
}

/// What a whole stream of gzip stands for.
pub(crate) fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn get(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get("/").header("host", "shop.test");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

/// The answer to a client of HTTP/1.1, with the connection that its body comes on.
async fn ask(proxy: &Proxy, request: Request<Empty<Bytes>>) -> (Response<Incoming>, JoinSet<()>) {
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    (response, tasks)
}

/// The same to a client of HTTP/2.
async fn ask_http2(
    proxy: &Proxy,
    mut request: Request<Empty<Bytes>>,
) -> (Response<Incoming>, JoinSet<()>) {
    *request.uri_mut() = "http://shop.test/".parse().unwrap();
    request.headers_mut().remove("host");
    let (mut sender, tasks) = http2_client(proxy).await;
    let response = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
    (response, tasks)
}

async fn whole(response: Response<Incoming>) -> Bytes {
    timeout(HANGS, response.into_body().collect()).await.unwrap().unwrap().to_bytes()
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

/// An upstream that answers with a head and a body of so many bytes, without it to HEAD.
async fn answering(head: &'static str, length: usize) -> Upstream {
    Upstream::start(move |request| {
        let body = if request.starts_with("HEAD ") { String::new() } else { "a".repeat(length) };
        format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}")
    })
    .await
}

const HTML: &str = "200 OK\r\ncontent-type: text/html\r\netag: \"a\"\r\naccept-ranges: bytes";
const GZIP: (&str, &str) = ("accept-encoding", "gzip");

#[tokio::test]
async fn a_client_that_takes_gzip_gets_it_with_a_head_that_fits() {
    let upstream = answering(HTML, 5_000).await;
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    for (response, _tasks) in
        [ask(&proxy, get(&[GZIP])).await, ask_http2(&proxy, get(&[GZIP])).await]
    {
        let headers = response.headers().clone();
        assert_eq!(field(&headers, "content-encoding"), Some("gzip"));
        assert_eq!(field(&headers, "vary"), Some("accept-encoding"));
        assert_eq!(field(&headers, "etag"), Some("W/\"a\""));
        for gone in ["content-length", "accept-ranges"] {
            assert_eq!(field(&headers, gone), None);
        }
        let bytes = whole(response).await;
        assert!(bytes.len() < 200, "{}", bytes.len());
        assert_eq!(unpacked(&bytes), "a".repeat(5_000));
    }
}

#[tokio::test]
async fn the_upstream_hears_what_the_client_takes() {
    let upstream = Upstream::start(|request| {
        let body = format!("{request}{}", "a".repeat(2_000));
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    let (response, _tasks) = ask(&proxy, get(&[("accept-encoding", "br;q=0.9, gzip;q=0.8")])).await;
    let text = unpacked(&whole(response).await);
    assert!(text.contains("\r\naccept-encoding: br;q=0.9, gzip;q=0.8\r\n"), "{text}");
}

#[tokio::test]
async fn what_should_not_be_compressed_comes_as_it_is() {
    const VARY: Option<&str> = Some("accept-encoding");
    for (sent, head, length, vary) in [
        (None, HTML, 5_000, VARY),
        (Some("gzip;q=0"), HTML, 5_000, VARY),
        (Some("br, *;q=0"), HTML, 5_000, VARY),
        (Some("identity, gzip;q=0.5"), HTML, 5_000, VARY),
        (Some("gzip"), HTML, 1_023, VARY),
        (Some("gzip"), HTML, 0, VARY),
        (Some("gzip"), "200 OK", 5_000, None),
        (Some("gzip"), "200 OK\r\ncontent-type: image/png", 5_000, None),
        (Some("gzip"), "200 OK\r\ncontent-type: text/event-stream", 5_000, None),
        (Some("gzip"), "200 OK\r\ncontent-type: application/grpc+json", 5_000, None),
        (
            Some("gzip"),
            "200 OK\r\ncontent-type: text/html\r\ncontent-encoding: br\r\nvary: x-team",
            5_000,
            Some("x-team"),
        ),
        (
            Some("gzip"),
            "200 OK\r\ncontent-type: text/html\r\ncache-control: no-transform",
            5_000,
            None,
        ),
        (
            Some("gzip"),
            "206 Partial Content\r\ncontent-type: text/html\r\ncontent-range: bytes 0-4999/9000",
            5_000,
            None,
        ),
    ] {
        let upstream = answering(head, length).await;
        let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
        let fields: Vec<_> = sent.iter().map(|value| ("accept-encoding", *value)).collect();
        let (response, _tasks) = ask(&proxy, get(&fields)).await;
        let headers = response.headers().clone();
        assert_ne!(field(&headers, "content-encoding"), Some("gzip"), "{sent:?} {head}");
        assert_eq!(field(&headers, "vary"), vary, "{sent:?} {head}");
        assert_eq!(field(&headers, "content-length"), Some(&*length.to_string()), "{head}");
        if head == HTML {
            assert_eq!(field(&headers, "etag"), Some("\"a\""), "{sent:?}");
        }
        assert_eq!(whole(response).await, "a".repeat(length), "{sent:?} {head}");
    }
}

#[tokio::test]
async fn a_route_without_the_option_and_clients_that_want_no_change_get_no_coding() {
    let upstream = answering(HTML, 5_000).await;
    let plain = Plan::new(&[upstream.address]).start();
    let (response, _tasks) = ask(&plain, get(&[GZIP])).await;
    assert_eq!(field(response.headers(), "vary"), None);
    assert_eq!(whole(response).await.len(), 5_000);
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    let (response, _tasks) = ask(&proxy, get(&[GZIP, ("cache-control", "no-transform")])).await;
    assert_eq!(whole(response).await.len(), 5_000);
    let old = "GET / HTTP/1.0\r\nhost: shop.test\r\naccept-encoding: gzip\r\n\r\n";
    let answer = proxy.raw(old).await;
    assert!(answer.ends_with(&"a".repeat(5_000)), "{answer}");
}

#[tokio::test]
async fn the_answer_to_head_says_what_that_to_get_says() {
    let upstream = answering(HTML, 5_000).await;
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    let said = |headers: &HeaderMap| {
        let mut said: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .filter(|(name, _)| {
                !["date", "whygate-request-id", "transfer-encoding"].contains(&&**name)
            })
            .collect();
        said.sort();
        said
    };
    let head = || {
        let mut request = get(&[GZIP]);
        *request.method_mut() = http::Method::HEAD;
        request
    };
    let (answer, _tasks) = ask(&proxy, get(&[GZIP])).await;
    let expected = said(answer.headers());
    assert!(!expected.is_empty());
    for (response, _tasks) in [ask(&proxy, head()).await, ask_http2(&proxy, head()).await] {
        assert_eq!(said(response.headers()), expected);
        assert_eq!(whole(response).await, "");
    }
    let small = answering(HTML, 100).await;
    let proxy = Plan::new(&[small.address]).with(compressing()).start();
    let (response, _tasks) = ask(&proxy, head()).await;
    assert_eq!(field(response.headers(), "content-encoding"), None);
    assert_eq!(field(response.headers(), "content-length"), Some("100"));
}

#[tokio::test]
async fn who_asks_by_a_weak_tag_is_answered_by_one() {
    let upstream =
        Upstream::start(|_| "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n".to_owned()).await;
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    for (sent, told) in [("W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\"")] {
        let (response, _tasks) = ask(&proxy, get(&[GZIP, ("if-none-match", sent)])).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(field(response.headers(), "etag"), Some(told));
        assert_eq!(field(response.headers(), "vary"), Some("accept-encoding"));
        assert_eq!(field(response.headers(), "content-encoding"), None);
        assert_eq!(whole(response).await, "");
    }
}

/// An exchange whose upstream is the test itself.
struct Stream {
    proxy: Proxy,
    upstream: TcpStream,
    body: Incoming,
    decoder: write::GzDecoder<Vec<u8>>,
    _tasks: JoinSet<()>,
}

impl Stream {
    async fn start(long_exchange: Option<Duration>, http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plan = Plan::new(&[listener.local_addr().unwrap()]).with(compressing());
        if let Some(long_exchange) = long_exchange {
            plan.limits.long_exchange = long_exchange;
        }
        let proxy = plan.start();
        let asked = async {
            if http2 {
                ask_http2(&proxy, get(&[GZIP])).await
            } else {
                ask(&proxy, get(&[GZIP])).await
            }
        };
        let answered = async {
            let (mut upstream, _) = listener.accept().await.unwrap();
            read_until(&mut upstream, "\r\n\r\n").await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
            upstream.write_all(head.as_bytes()).await.unwrap();
            upstream
        };
        let ((response, tasks), upstream) = tokio::join!(asked, answered);
        assert_eq!(field(response.headers(), "content-encoding"), Some("gzip"));
        let (body, decoder) = (response.into_body(), write::GzDecoder::new(Vec::new()));
        Self { proxy, upstream, body, decoder, _tasks: tasks }
    }

    async fn send(&mut self, chunk: &str) {
        let framed = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        self.upstream.write_all(framed.as_bytes()).await.unwrap();
    }

    /// Reads until this is what came; an end before it is one.
    async fn reads(&mut self, expected: &str) {
        while self.decoder.get_ref() != expected.as_bytes() {
            let frame = timeout(HANGS, self.body.frame()).await.unwrap().unwrap().unwrap();
            std::io::Write::write_all(&mut self.decoder, &frame.into_data().unwrap()).unwrap();
            std::io::Write::flush(&mut self.decoder).unwrap();
        }
    }

    /// Reads on to the end; false if it broke off.
    async fn ends(&mut self) -> bool {
        loop {
            match timeout(HANGS, self.body.frame()).await.unwrap() {
                None => return self.decoder.try_finish().is_ok(),
                Some(Err(_)) => {
                    assert!(self.decoder.try_finish().is_err(), "a whole stream that broke off");
                    return false;
                }
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap();
                    std::io::Write::write_all(&mut self.decoder, &data).unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn what_has_come_is_handed_on_before_the_upstream_sends_more() {
    for http2 in [false, true] {
        let mut stream = Stream::start(None, http2).await;
        stream.send("one\n").await;
        stream.reads("one\n").await;
        stream.send("two\n").await;
        stream.reads("one\ntwo\n").await;
        stream.upstream.write_all(b"0\r\n\r\n").await.unwrap();
        assert!(stream.ends().await);
        assert_eq!(stream.decoder.get_ref(), b"one\ntwo\n");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_leaves_no_stream_that_looks_whole() {
    for http2 in [false, true] {
        let mut stream = Stream::start(None, http2).await;
        stream.send("one\n").await;
        stream.reads("one\n").await;
        stream.send("two\n").await;
        stream.upstream.write_all(b"10\r\nhalf").await.unwrap();
        stream.upstream.shutdown().await.unwrap();
        assert!(!stream.ends().await);
        let counts = stream.proxy.dataplane.denial_counts();
        let codes: Vec<_> = counts.iter().map(|(key, _)| key.code.as_str()).collect();
        assert_eq!(codes, ["UpstreamReset"]);
    }
}

#[tokio::test]
async fn a_long_compressed_response_is_closed_when_its_request_would_be_refused() {
    let mut stream = Stream::start(Some(Duration::from_millis(20)), false).await;
    stream.send("one\n").await;
    stream.reads("one\n").await;
    let refusing = require("203.0.113.0/24", Enforcement::Enforce);
    let refused = snapshot(2, vec![("shop.test", refusing)]);
    stream.proxy.snapshot.send_replace(std::sync::Arc::new(refused));
    assert!(!stream.ends().await);
    let sample = timeout(HANGS, stream.proxy.samples.recv()).await.unwrap().unwrap();
    assert!(sample.observed.starts_with("closed a response that was open for "), "{sample:?}");
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_gets_it_as_it_is() {
    const PLACES: usize = 64;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]).with(compressing());
    plan.limits.streams = std::num::NonZeroU32::new(1_000).unwrap();
    let proxy = plan.start();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            open.spawn(async move {
                read_until(&mut stream, "\r\n\r\n").await;
                let head =
                    format!("HTTP/1.1 {HTML}\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                // The answer goes on until the client leaves.
                read_to_end(&mut stream).await
            });
        }
    });
    // On one connection, so one data thread has them all.
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    let coding = async || {
        let request = Request::get("http://shop.test/").header(GZIP.0, GZIP.1);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = timeout(HANGS, sender.clone().send_request(request)).await.unwrap().unwrap();
        assert_eq!(field(response.headers(), "vary"), Some("accept-encoding"));
        let coding = field(response.headers(), "content-encoding").map(str::to_owned);
        (coding, response)
    };
    let mut open = Vec::new();
    for number in 0..PLACES {
        let (found, response) = coding().await;
        assert_eq!(found.as_deref(), Some("gzip"), "{number}");
        open.push(response);
    }
    assert_eq!(coding().await.0, None);
    open.pop();
    let again = async { while coding().await.0.is_none() {} };
    assert!(timeout(HANGS, again).await.is_ok(), "a place is free again");
}

/// Text that neither repeats itself nor is noise.
fn varied(length: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from((state >> 24) % 26).unwrap())
    };
    (0..length).map(|at| if at % 7 < 3 { 'e' } else { next() }).collect()
}

#[tokio::test]
async fn long_bodies_arrive_to_the_byte() {
    const LENGTH: usize = 3_000_000;
    let upstream = Upstream::start(|_| {
        let body = varied(LENGTH);
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {LENGTH}\r\n\r\n{body}"
        )
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).with(compressing()).start();
    for (response, _tasks) in
        [ask(&proxy, get(&[GZIP])).await, ask_http2(&proxy, get(&[GZIP])).await]
    {
        let bytes = whole(response).await;
        assert!(bytes.len() < LENGTH * 3 / 4, "{}", bytes.len());
        assert!(unpacked(&bytes) == varied(LENGTH));
    }
}

#[tokio::test]
async fn an_empty_body_without_a_length_is_an_empty_stream() {
    let mut stream = Stream::start(None, false).await;
    stream.upstream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(stream.ends().await);
    assert_eq!(stream.decoder.get_ref(), b"");
}
