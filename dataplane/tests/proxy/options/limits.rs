//! Time-outs and the limit of bodies.

use std::time::Duration;

use decision::{
    options::{BodyLimit, Options, Timeouts},
    refs::{FieldRef, Kind, ResourceRef},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, Upstream, read_to_end, read_until};

const SHORT: Duration = Duration::from_millis(80);

fn waiting(timeouts: Timeouts) -> Options {
    Options { timeouts, ..Options::default() }
}

fn limited(bytes: u64) -> Options {
    let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
    let field = FieldRef::new(ingress, "metadata.annotations['whygate.dev/body-limit']");
    Options { body_limit: Some(BodyLimit { bytes, field }), ..Options::default() }
}

/// A proxy whose `shop.test` takes bodies of at most 10 bytes.
fn ten_bytes(upstream: &Upstream) -> Proxy {
    Plan::new(&[upstream.address]).with(limited(10)).start()
}

fn check_code(answer: &str, status: &str, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    assert!(answer.contains(&format!("whygate-denial-code: {code}\r\n")), "{answer}");
}

#[tokio::test]
async fn a_route_waits_for_its_upstream_no_longer_than_it_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = Timeouts { first_byte: Some(SHORT), ..Timeouts::default() };
    let mut proxy = Plan::new(&[listener.local_addr().unwrap()]).with(waiting(timeouts)).start();
    check_code(&proxy.get("shop.test", "/", "").await, "504", "UpstreamTimeout");
    let observed = proxy.samples.recv().await.unwrap().observed;
    assert!(observed.ends_with("sent no answer within 80ms"), "{observed}");
}

#[tokio::test]
async fn an_answer_that_pauses_for_longer_than_its_route_says_is_broken_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeouts = Timeouts { idle: Some(SHORT), ..Timeouts::default() };
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).with(waiting(timeouts)).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.ends_with("\r\n\r\nhalf"), "{answer}");
    let counts = proxy.dataplane.denial_counts();
    assert_eq!(
        counts.iter().map(|(key, _)| key.code.as_str()).collect::<Vec<_>>(),
        ["UpstreamTimeout"]
    );
}

#[tokio::test]
async fn an_endpoint_that_accepts_nothing_is_given_up_as_the_route_says() {
    // A listener whose queue is full: the kernel drops what else wants to connect.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(stream.unwrap());
    }
    let timeouts = Timeouts { connect: Some(SHORT), ..Timeouts::default() };
    let mut proxy = Plan::new(&[address]).with(waiting(timeouts)).start();
    check_code(&proxy.get("shop.test", "/", "").await, "502", "UpstreamConnectFailed");
    let observed = proxy.samples.recv().await.unwrap().observed;
    assert!(observed.ends_with("did not accept a connection within 80ms"), "{observed}");
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_a_413_that_names_annotation_and_limit() {
    let upstream = Upstream::echo().await;
    let mut proxy = ten_bytes(&upstream);
    let request =
        "POST / HTTP/1.1\r\nhost: shop.test\r\nexpect: 100-continue\r\ncontent-length: 11\r\n\r\n";
    let answer = proxy.raw(request).await;
    check_code(&answer, "413", "BodyTooLarge");
    let sample = proxy.samples.recv().await.unwrap();
    assert_eq!(sample.observed, "the body has 11 bytes, the limit is 10");
    let annotation = "Ingress shop/web at metadata.annotations['whygate.dev/body-limit']";
    assert_eq!(sample.remedy, format!("Send a smaller body, or raise {annotation}."));
    assert_eq!(sample.key.field.as_ref().unwrap().to_string(), annotation);
    assert!(sample.key.route.is_some());
    assert_eq!((proxy.metric("whygate_permits_total"), upstream.connections()), (0, 0));
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_passes_however_it_is_framed() {
    let upstream = Upstream::echo().await;
    let proxy = ten_bytes(&upstream);
    for framed in [
        "content-length: 10\r\n\r\n0123456789",
        "transfer-encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
    ] {
        let answer = proxy
            .raw(&format!("POST / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{framed}"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn a_chunked_body_is_counted_and_what_is_too_much_never_reaches_the_upstream() {
    let upstream = Upstream::echo().await;
    let mut proxy = ten_bytes(&upstream);
    // Chunk extensions and sizes with leading zeros are framing, not body.
    let request = "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n00008;x=y\r\n01234567\r\n3\r\n89X\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    let answer = proxy.raw(request).await;
    check_code(&answer, "413", "BodyTooLarge");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let observed = proxy.samples.recv().await.unwrap().observed;
    assert_eq!(observed, "the body has more bytes than the limit of 10");
    assert_eq!(upstream.requests(), 0, "no complete request reached it");
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_what_is_counted() {
    let upstream = Upstream::echo().await;
    let proxy = ten_bytes(&upstream);
    let request = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nb\r\n0123456789X\r\n0\r\n\r\n";
    let answer = proxy.raw(request).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    let upstream = Upstream::echo().await;
    let proxy = ten_bytes(&upstream);
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (mut answers, mut bytes) = client.split();
    let flood = async {
        while bytes.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut answers, &mut answer);
    let ended = timeout(HANGS, async {
        tokio::select! {
            () = flood => {}
            read = read => drop(read),
        }
    });
    ended.await.unwrap();
    check_code(&answer, "413", "BodyTooLarge");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn over_http_2_a_body_without_a_length_is_counted_and_its_connection_goes_on() {
    let upstream = Upstream::echo().await;
    let proxy = ten_bytes(&upstream);
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for (chunks, expected) in [
        (vec!["01234567", "89X"], StatusCode::PAYLOAD_TOO_LARGE),
        (vec!["01234567", "89"], StatusCode::OK),
        (vec!["0123456789X"], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let frames = chunks.into_iter().map(|chunk| {
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from(chunk)))
        });
        let body = StreamBody::new(futures::stream::iter(frames)).boxed();
        let request = Request::post("http://shop.test/").body(body).unwrap();
        let answer = timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), expected);
    }
    let frame = http_body::Frame::data(bytes::Bytes::from_static(b"0123456789XYZ"));
    let frames = futures::stream::iter([Ok::<_, std::convert::Infallible>(frame)]);
    let lying = Request::post("http://shop.test/").header("content-length", "5");
    let lying = lying.body(StreamBody::new(frames).boxed()).unwrap();
    let answer = timeout(HANGS, sender.send_request(lying)).await.unwrap();
    assert!(answer.is_err() || !answer.unwrap().status().is_success(), "a length that lies");
    let full = Full::new(bytes::Bytes::from_static(b"0123456789X")).boxed();
    let announced = Request::post("http://shop.test/").body(full).unwrap();
    let answer = timeout(HANGS, sender.send_request(announced)).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(upstream.requests(), 1);
    connection.abort();
}

#[tokio::test]
async fn a_body_that_grows_too_large_behind_an_early_answer_is_the_clients_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut proxy = Plan::new(&[listener.local_addr().unwrap()]).with(limited(10)).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let head =
        b"POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n";
    client.write_all(head).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "0123").await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        .await
        .unwrap();
    read_until(&mut client, "hi\r\n").await;
    client.write_all(b"8\r\n456789XY\r\n").await.unwrap();
    let rest = read_to_end(&mut client).await;
    assert!(!rest.contains("0\r\n\r\n"), "the answer must not look complete: {rest}");
    let sample = timeout(HANGS, proxy.samples.recv()).await.unwrap().unwrap();
    assert_eq!(sample.key.code.as_str(), "BodyTooLarge");
    assert_eq!(proxy.dataplane.denial_counts().len(), 1);
}
