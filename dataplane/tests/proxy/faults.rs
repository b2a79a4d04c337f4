//! Upstreams that fail and clients that dawdle: each has its own code, and nobody hangs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use dataplane::{EndpointTable, Limits};
use decision::{protection::Posture, uncovered::OpenBy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, Upstream, nobody, read_to_end, read_until};

const SHORT: Duration = Duration::from_millis(80);

fn impatient(upstreams: &[SocketAddr], limits: Limits) -> Proxy {
    let mut plan = Plan::new(upstreams);
    plan.limits = limits;
    plan.start()
}

fn check_code(answer: &str, status: &str, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    assert!(answer.contains(&format!("whygate-denial-code: {code}\r\n")), "{answer}");
}

#[tokio::test]
async fn each_way_of_an_upstream_to_fail_has_its_code() {
    let upstream = Upstream::start(|request| match request.split(' ').nth(1) {
        Some("/garbage") => "SSH-2.0-OpenSSH_9.9\r\nconnection: close".to_owned(),
        Some("/half") => "HTTP/1.1 200 OK\r\nconnection: close\r\n".to_owned(),
        Some("/switch") => {
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
                .to_owned()
        }
        _ => String::new(),
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).start();
    for (path, status, code) in [
        ("/garbage", 502, "UpstreamMalformed"),
        ("/half", 502, "UpstreamReset"),
        ("/close", 502, "UpstreamReset"),
        ("/switch", 502, "UpstreamMalformed"),
    ] {
        check_code(&proxy.get("shop.test", path, "").await, &status.to_string(), code);
    }
    let mut refused = Plan::new(&[nobody().await]).start();
    check_code(&refused.get("shop.test", "/", "").await, "502", "UpstreamConnectFailed");
    assert!(refused.samples.recv().await.is_some());
    assert_eq!(refused.metric("whygate_upstream_connect_failures_total"), 1);
    refused.endpoints.send_replace(Arc::new(EndpointTable::default()));
    check_code(&refused.get("shop.test", "/", "").await, "503", "NoEndpoints");
    let remedy = refused.samples.recv().await.unwrap().remedy;
    assert!(remedy.contains("-n shop -l kubernetes.io/service-name="), "{remedy}");
    assert_eq!(refused.metric("whygate_permits_total"), 1);
}

#[tokio::test]
async fn a_backend_that_does_not_exist_takes_no_permit() {
    let mut plan = Plan::new(&[]);
    plan.routes.push(("missing.test", Posture::Open(OpenBy::Flag)));
    let mut proxy = plan.start();
    check_code(&proxy.get("missing.test", "/", "").await, "503", "BackendMissing");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(sample.observed.starts_with("spec.rules[3].http.paths[0]: "), "{}", sample.observed);
    assert_eq!(sample.remedy, "Name one.", "as its compiler said");
    assert_eq!(proxy.metric("whygate_permits_total"), 0);
}

#[tokio::test]
async fn a_refusal_is_counted_with_whose_fault_it_is() {
    let mut plan = Plan::new(&[]);
    plan.routes.push(("missing.test", Posture::Open(OpenBy::Flag)));
    let proxy = plan.start();
    for host in ["office.test", "shop.test", "missing.test"] {
        proxy.get(host, "/", "").await;
    }
    let mut text = String::new();
    proxy.dataplane.metrics().encode(&mut text);
    for labels in [
        r#"code="AddressNotAllowed",fault="client",class="4xx""#,
        r#"code="NoEndpoints",fault="upstream",class="5xx""#,
        r#"code="BackendMissing",fault="gateway",class="5xx""#,
    ] {
        let series = format!("whygate_refusals_total{{{labels},");
        assert!(text.lines().any(|line| line.starts_with(&series)), "{series}\n{text}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_upstream_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
    let written = until_blocked(&mut upstream).await;
    assert!(written < 64 << 20, "{written} bytes are somewhere");
}

#[tokio::test]
async fn an_upstream_that_does_not_read_holds_its_client_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let head = b"PUT / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 1000000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let _open = listener.accept().await.unwrap();
    let written = until_blocked(&mut client).await;
    assert!(written < 64 << 20, "{written} bytes are somewhere");
}

/// Writes until nobody takes anything for a while; gives the number of bytes.
async fn until_blocked(stream: &mut TcpStream) -> usize {
    let block = vec![b'x'; 1 << 20];
    let mut written = 0;
    while let Ok(wrote) = timeout(Duration::from_millis(300), stream.write(&block)).await {
        written += wrote.unwrap();
    }
    written
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_passed_over() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[nobody().await, upstream.address]).start();
    for _ in 0..20 {
        let answer = proxy.get("shop.test", "/", "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let permits = proxy.metric("whygate_permits_total");
    assert_eq!((permits, proxy.metric("whygate_upstream_requests_total")), (20, 20));
    assert_eq!(proxy.metric("whygate_upstream_connect_failures_total"), 0);
}

#[tokio::test]
async fn a_silent_upstream_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { upstream_first_byte: SHORT, ..Limits::default() };
    let proxy = impatient(&[listener.local_addr().unwrap()], limits);
    check_code(&proxy.get("shop.test", "/", "").await, "504", "UpstreamTimeout");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_broken_off_and_counted() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf".to_owned()
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.contains("content-length: 10\r\n") && answer.ends_with("half"), "{answer}");
    let counts = proxy.dataplane.denial_counts();
    let codes: Vec<_> = counts.iter().map(|(key, _)| key.code.as_str()).collect();
    assert_eq!(codes, ["UpstreamReset"]);
}

#[tokio::test]
async fn a_body_that_stops_is_a_408_and_its_upstream_connection_is_not_used_again() {
    let upstream = Upstream::echo().await;
    let limits = Limits { body_idle: SHORT, ..Limits::default() };
    let mut proxy = impatient(&[upstream.address], limits);
    let request = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 10\r\n\r\nhalf";
    let answer = proxy.raw(request).await;
    check_code(&answer, "408", "RequestTimeout");
    let observed = proxy.samples.recv().await.unwrap().observed;
    assert!(observed.contains("made no progress"), "{observed}");
    assert!(proxy.get("shop.test", "/", "").await.starts_with("HTTP/1.1 200"));
    assert_eq!((upstream.requests(), upstream.connections()), (1, 2));
}

#[tokio::test]
async fn a_body_that_trickles_is_a_408() {
    let upstream = Upstream::echo().await;
    let limits = Limits { body_rate_grace: SHORT, body_rate_bytes: 1_000_000, ..Limits::default() };
    let mut proxy = impatient(&[upstream.address], limits);
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 1000000\r\n\r\n")
        .await
        .unwrap();
    let (mut answers, mut bytes) = client.split();
    let trickle = async {
        while bytes.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = String::new();
    tokio::select! {
        () = trickle => {}
        read = tokio::io::AsyncReadExt::read_to_string(&mut answers, &mut answer) => drop(read),
    }
    check_code(&answer, "408", "RequestTimeout");
    let observed = proxy.samples.recv().await.unwrap().observed;
    assert!(observed.contains("fewer than 1000000 bytes a second"), "{observed}");
}

#[tokio::test]
async fn who_is_refused_while_uploading_still_gets_to_read_why() {
    let proxy = Plan::new(&[]).start();
    let length = 4_000_000;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: office.test\r\ncontent-length: {length}\r\n\r\n{}",
        "x".repeat(length)
    );
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    check_code(&read_to_end(&mut client).await, "403", "AddressNotAllowed");
}

#[tokio::test]
async fn a_body_that_is_no_chunked_text_is_refused() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request =
        "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nhello\r\n";
    let answer = proxy.raw(request).await;
    check_code(&answer, "400", "RequestMalformed");
    assert_eq!(upstream.requests(), 0);
    let counts = proxy.dataplane.denial_counts();
    assert!(counts.iter().all(|(key, _)| key.route.is_none()), "{counts:?}");
}

#[tokio::test]
async fn silence_and_slow_heads_are_closed() {
    let limits = Limits { first_byte: SHORT, header_read: SHORT, ..Limits::default() };
    let proxy = impatient(&[], limits);
    for (sent, reason) in [
        ("", "first-byte-timeout"),
        ("PRI * HTT", "first-byte-timeout"),
        ("GET / HTTP/1.1\r\nhost: sh", "header-timeout"),
    ] {
        let before = proxy.metric(&rejected(reason));
        assert_eq!(proxy.raw(sent).await, "", "{sent}");
        proxy.metric_becomes(&rejected(reason), before + 1).await;
    }
    proxy.metric_becomes("whygate_connections", 0).await;
}

#[tokio::test]
async fn a_connection_between_requests_is_closed_when_it_has_rested() {
    let upstream = Upstream::echo().await;
    let limits = Limits { keep_alive_idle: SHORT, ..Limits::default() };
    let proxy = impatient(&[upstream.address], limits);
    let answer = proxy.raw("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn garbage_and_large_heads_are_refused_by_the_parser_and_counted() {
    let proxy = Plan::new(&[]).start();
    let garbage = proxy.raw("\u{1}\u{2}\u{3}\u{4} nonsense\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    proxy.metric_becomes(&rejected("malformed"), 1).await;
    let filler = "x".repeat(17_000);
    let large =
        proxy.raw(&format!("GET / HTTP/1.1\r\nhost: shop.test\r\ncookie: {filler}\r\n\r\n")).await;
    assert!(large.starts_with("HTTP/1.1 431"), "{large}");
    proxy.metric_becomes(&rejected("headers-too-large"), 1).await;
    let many = "a: b\r\n".repeat(101);
    let many = proxy.raw(&format!("GET / HTTP/1.1\r\nhost: shop.test\r\n{many}\r\n")).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
}

#[tokio::test]
async fn clients_beyond_the_limit_are_turned_away() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let proxy = impatient(&[], limits);
    let mut open = Vec::new();
    while proxy.metric(&rejected("too-many-connections")) == 0 {
        open.push(TcpStream::connect(proxy.http()).await.unwrap());
        assert!(open.len() < 1_000);
    }
    assert!(proxy.metric("whygate_connections") <= 2);
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_a_connection_that_rests() {
    let upstream = Upstream::echo().await;
    let first_byte = Duration::from_hours(1);
    let limits = Limits { connections: 1, first_byte, ..Limits::default() };
    let proxy = impatient(&[upstream.address], limits);
    let request = "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    let mut resting = TcpStream::connect(proxy.http()).await.unwrap();
    proxy.metric_becomes("whygate_connections", 1).await;
    // Some go to another thread, which has room.
    let newcomers = async {
        loop {
            proxy.raw(request).await;
        }
    };
    let ended = timeout(HANGS, async {
        tokio::select! {
            end = read_to_end(&mut resting) => end,
            never = newcomers => never,
        }
    });
    assert_eq!(ended.await.unwrap(), "");
    proxy.metric_becomes("whygate_connections", 0).await;
    assert!(proxy.raw(request).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_flood_of_frames_that_bring_nothing_forward_is_told_and_cut_off() {
    let proxy = impatient(&[], Limits::default());
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0whygate?";
    let mut answer = Vec::new();
    for _ in 0..2_000 {
        if client.write_all(ping).await.is_err() {
            break;
        }
    }
    let _ = timeout(HANGS, client.read_to_end(&mut answer)).await.unwrap();
    let goaway = |frame: &[u8]| frame.starts_with(b"\0\0\x08\x07\0\0\0\0\0");
    assert!(answer.windows(9).any(goaway), "{} bytes, and no GOAWAY", answer.len());
    proxy.metric_becomes(&rejected("flood"), 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_keep_its_upstream_busy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    drop(client);
    assert_eq!(read_to_end(&mut upstream).await, "");
    proxy.metric_becomes("whygate_requests_in_flight", 0).await;
}

fn rejected(reason: &str) -> String {
    format!("whygate_hyper_rejected_total{{reason=\"{reason}\"}}")
}
