//! What upstreams and clients get to see.

use std::time::Duration;

use decision::{client::AddressSource, protection::Posture, uncovered::OpenBy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{Plan, Upstream, endpoints, read_to_end, read_until};

#[tokio::test]
async fn an_open_route_is_served_with_bodies_both_ways() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = "POST /cart HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let answer = proxy.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("POST /cart HTTP/1.1\r\n") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_stays_chunked_and_loses_its_trailers() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = "POST / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-admin\r\n\r\n5\r\nhello\r\n0\r\nx-admin: yes\r\n\r\n";
    let answer = proxy.raw(request).await;
    assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{answer}");
    assert!(!answer.contains("x-admin"), "{answer}");
}

#[tokio::test]
async fn of_two_framings_one_reading_is_left() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    let answer = proxy.raw(request).await;
    assert!(!answer.contains("content-length: 40"), "{answer}");
    assert!(!answer.contains("smuggled"), "{answer}");
    assert!(upstream.requests() <= 1);
}

#[tokio::test]
async fn a_refusal_tells_its_code_and_its_id() {
    let upstream = Upstream::echo().await;
    let mut proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("office.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("whygate-denial-code: AddressNotAllowed\r\n"), "{answer}");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(answer.contains(&format!("whygate-request-id: {}\r\n", sample.id)), "{answer}");
    assert!(sample.observed.contains("127.0.0.1"), "{}", sample.observed);
    assert_eq!((sample.host.as_str(), sample.path.as_str()), ("office.test", "/"));
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn refusals_are_counted_exactly_whatever_is_sampled() {
    let upstream = Upstream::echo().await;
    let mut proxy = Plan::new(&[upstream.address]).start();
    for _ in 0..40 {
        proxy.get("office.test", "/", "").await;
    }
    let counts = proxy.dataplane.denial_counts();
    let totals: Vec<u64> = counts.iter().map(|(_, total)| *total).collect();
    assert_eq!(totals, [40]);
    let samples = std::iter::from_fn(|| proxy.samples.try_recv().ok()).count();
    assert!((10..=24).contains(&samples), "{samples}");
}

#[tokio::test]
async fn a_rule_in_shadow_counts_and_lets_pass() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("trial.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let counts = proxy.dataplane.denial_counts();
    let shadows: Vec<_> = counts.iter().map(|(key, total)| (key.shadow, *total)).collect();
    assert_eq!(shadows, [(true, 1)]);
}

#[tokio::test]
async fn every_permit_is_accounted_for() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    for host in ["shop.test", "office.test", "trial.test", "unknown.test", "shop.test"] {
        proxy.get(host, "/", "").await;
    }
    proxy.get("shop.test", "/..", "").await;
    let sent = proxy.metric("whygate_upstream_requests_total");
    let failed = proxy.metric("whygate_upstream_connect_failures_total");
    assert_eq!(proxy.metric("whygate_permits_total"), sent + failed);
    assert_eq!((sent, upstream.requests()), (3, 3));
}

#[tokio::test]
async fn the_upstream_gets_the_path_that_was_judged() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("SHOP.test.:80", "//a/%62/../c%2e?q=%2f", "").await;
    assert!(answer.contains("GET /a/c.?q=%2f HTTP/1.1\r\n"), "{answer}");
    assert!(answer.contains("host: shop.test\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_that_can_be_read_two_ways_is_refused_and_its_connection_closed() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.raw("GET /a%2fb HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("whygate-denial-code: RequestMalformed\r\n"), "{answer}");
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn headers_of_one_hop_end_here_and_ours_cannot_be_named_away() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let request = "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close, x-forwarded-for, x-real-ip, x-secret, host\r\nx-secret: 1\r\nte: trailers\r\nkeep-alive: 5\r\nupgrade: websocket\r\nx-forwarded-for: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.2\r\nwhygate-user: root\r\n\r\n";
    let answer = proxy.raw(request).await;
    let (_, got) = answer.split_once("\r\n\r\n").unwrap();
    for gone in ["x-secret", "te:", "keep-alive", "upgrade", "10.0.0", "whygate-user", "connection"]
    {
        assert!(!got.contains(gone), "{gone} in {got}");
    }
    for ours in [
        "host: shop.test\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-real-ip: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: shop.test\r\n",
        "x-forwarded-port: 80\r\n",
        "via: 1.1 whygate\r\n",
    ] {
        assert!(got.contains(ours), "{ours} not in {got}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_continued_and_a_stranger_replaced() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.source = AddressSource {
        trusted_proxies: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(),
        ..AddressSource::default()
    };
    let trusting = plan.start();
    let headers =
        "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\nx-request-id: abc\r\n";
    let answer = trusting.get("shop.test", "/", headers).await;
    assert!(answer.contains("x-forwarded-for: 203.0.113.9, 127.0.0.1\r\n"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: abc\r\n"), "{answer}");
    let strict = Plan::new(&[upstream.address]).start();
    let answer = strict.get("shop.test", "/", headers).await;
    assert!(answer.contains("x-forwarded-for: 127.0.0.1\r\n"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: http\r\n"), "{answer}");
    assert!(!answer.contains("x-request-id: abc\r\n"), "{answer}");
}

#[tokio::test]
async fn a_trusted_proxy_must_announce_connections_and_nobody_else_may() {
    let upstream = Upstream::echo().await;
    let with = |trusted: &str| {
        let mut plan = Plan::new(&[upstream.address]);
        plan.source = AddressSource {
            trusted_proxies: [trusted.parse().unwrap()].into_iter().collect(),
            proxy_protocol: true,
            ..AddressSource::default()
        };
        plan.start()
    };
    let request =
        |host: &str| format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let announced =
        |client: &str, host| format!("PROXY TCP4 {client} 127.0.0.1 4711 80\r\n{}", request(host));
    let proxy = with("127.0.0.0/8");
    let answer = proxy.raw(&announced("203.0.113.9", "office.test")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "the office: {answer}");
    assert!(answer.contains("x-forwarded-for: 203.0.113.9\r\n"), "{answer}");
    let answer = proxy.raw(&announced("198.51.100.1", "office.test")).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "a stranger: {answer}");
    let answer = proxy.raw(&format!("PROXY UNKNOWN\r\n{}", request("office.test"))).await;
    assert!(answer.contains("whygate-denial-code: ClientAddressUnknown\r\n"), "{answer}");
    assert_eq!(proxy.raw(&request("shop.test")).await, "", "nothing was announced");
    proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"proxy-header\"}", 1).await;
    let direct = with("192.0.2.0/24");
    let answer = direct.raw(&announced("203.0.113.9", "office.test")).await;
    assert!(!answer.contains("200 OK"), "not from a stranger: {answer}");
    let answer = direct.raw(&request("shop.test")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upstream_cannot_speak_as_whygate_nor_frame_for_us() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\nwhygate-request-id: forged\r\nWhygate_User: x\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok".to_owned()
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("shop.test", "/", "").await;
    for gone in ["forged", "whygate_user", "x-hop", "keep-alive"] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
    assert_eq!(answer.matches("whygate-request-id: ").count(), 1, "{answer}");
    assert_eq!(answer.matches("content-length: 2\r\n").count(), 1, "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn head_keeps_the_length_of_the_answer_it_does_not_get() {
    let upstream =
        Upstream::start(|_| "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_owned()).await;
    let proxy = Plan::new(&[upstream.address]).start();
    let head = |host: &str| format!("HEAD / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = proxy.raw(&head("shop.test")).await;
    assert!(
        answer.contains("content-length: 1234\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let refused = proxy.raw(&head("office.test")).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.ends_with("\r\n\r\n"), "{refused}");
}

#[tokio::test]
async fn a_length_that_an_upstream_tells_in_two_ways_is_not_passed_on() {
    for length in ["2\r\ncontent-length: 3", "2, 3", "x"] {
        let upstream = Upstream::start(move |_| {
            format!("HTTP/1.1 200 OK\r\nx-seen: 1\r\ncontent-length: {length}\r\n\r\n")
        })
        .await;
        let proxy = Plan::new(&[upstream.address]).start();
        let head = "HEAD / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        let answer = proxy.raw(head).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{length}: {answer}");
        assert!(!answer.contains("content-length"), "{length}: {answer}");
    }
}

#[tokio::test]
async fn a_request_that_goes_round_in_circles_is_stopped() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    // Whoever writes the endpoints of a Service may make them the proxy's own address.
    let circle = proxy.http();
    proxy.endpoints.send_modify(|table| {
        let table = std::sync::Arc::make_mut(table);
        table.0.values_mut().for_each(|addresses| *addresses = endpoints([circle]));
    });
    let answer = proxy.get("shop.test", "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(proxy.metric("whygate_permits_total"), 8);
}

#[tokio::test]
async fn connections_to_upstreams_are_used_again() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    for _ in 0..50 {
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 2\r\n\r\nhi")
            .await
            .unwrap();
        read_until(&mut client, "\r\n\r\nhi").await;
    }
    assert_eq!((upstream.requests(), upstream.connections()), (50, 1));
    assert_eq!(proxy.metric("whygate_upstream_retries_total"), 0);
}

#[tokio::test]
async fn a_connection_that_broke_is_not_used_again() {
    // It breaks the connection off instead of answering for `/end`.
    let upstream = Upstream::start(|request| {
        if request.starts_with("GET /end") {
            String::new()
        } else {
            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
        }
    })
    .await;
    let proxy = Plan::new(&[upstream.address]).start();
    for _ in 0..5 {
        let answer = proxy.get("shop.test", "/", "").await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        let answer = proxy.get("shop.test", "/end", "").await;
        assert!(answer.contains("whygate-denial-code: UpstreamReset\r\n"), "{answer}");
    }
    assert_eq!(proxy.metric("whygate_upstream_requests_total"), 10);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    for _ in 0..100 {
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 2\r\n\r\nhi")
            .await
            .unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        read_until(&mut upstream, "\r\n\r\nhi").await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        // Closed without a word, as a server does whose idle time is over.
        drop(upstream);
    }
    assert_eq!(proxy.metric("whygate_permits_total"), 100);
    assert_eq!(proxy.metric("whygate_upstream_requests_total"), 100);
}

#[tokio::test]
async fn a_request_that_crosses_the_end_of_a_rested_connection_is_sent_again_if_it_is_safe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    for method in ["GET", "DELETE"] {
        let mut client = TcpStream::connect(proxy.http()).await.unwrap();
        let request = format!("{method} / HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        read_until(&mut upstream, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        upstream.write_all(answer.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\nok").await;
        let silence = timeout(Duration::from_millis(150), client.read_u8()).await;
        assert!(silence.is_err(), "nothing was asked");
        client.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut upstream, "\r\n\r\n").await;
        drop(upstream);
        if method == "GET" {
            let (mut upstream, _) = listener.accept().await.unwrap();
            let again = read_until(&mut upstream, "\r\n\r\n").await;
            assert!(again.starts_with("GET / HTTP/1.1\r\nhost: shop.test\r\n"), "{again}");
            upstream.write_all(answer.as_bytes()).await.unwrap();
            let answer = read_until(&mut client, "\r\n\r\nok").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        } else {
            let answer = read_until(&mut client, "}\n").await;
            assert!(answer.contains("whygate-denial-code: UpstreamReset\r\n"), "{answer}");
        }
    }
    assert_eq!(proxy.metric("whygate_permits_total"), 4);
    assert_eq!(proxy.metric("whygate_upstream_retries_total"), 1);
}

#[tokio::test]
async fn plain_http_of_a_host_with_a_certificate_is_redirected() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.routes.push(("secure.test", Posture::Open(OpenBy::Flag)));
    let proxy = plan.start();
    let answer = proxy.get("secure.test", "/a//b?x=1", "").await;
    assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
    assert!(answer.contains("location: https://secure.test/a/b?x=1\r\n"), "{answer}");
    assert!(answer.contains("whygate-request-id: "), "{answer}");
}

#[tokio::test]
async fn a_redirect_is_read_by_clients_that_go_on_sending() {
    let mut plan = Plan::new(&[]);
    plan.routes.push(("secure.test", Posture::Open(OpenBy::Flag)));
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: secure.test\r\ncontent-length: 1000000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{answer}");
    for _ in 0..10 {
        client.write_all(&vec![0; 100_000]).await.unwrap();
    }
}

#[tokio::test]
async fn a_redirect_can_lead_to_the_port_that_was_picked() {
    let mut plan = Plan::new(&[]);
    plan.routes.push(("secure.test", Posture::Open(OpenBy::Flag)));
    plan.redirect_port = Some(0);
    let proxy = plan.start();
    let answer = proxy.get("secure.test", "/a", "").await;
    let location = format!("location: https://secure.test:{}/a\r\n", proxy.https().port());
    assert!(answer.contains(&location), "{answer}");
}

#[tokio::test]
async fn no_route_is_404_without_the_request_in_it() {
    let proxy = Plan::new(&[]).start();
    let answer = proxy.get("unknown.test", "/secret-path", "accept: text/html\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    assert!(!answer.contains("secret-path") && !answer.contains("unknown.test"), "{answer}");
    let class = "whygate_requests_total{route=\"other\",class=\"4xx\"}";
    assert_eq!(proxy.metric(class), 1);
}

#[tokio::test]
async fn a_new_snapshot_holds_for_the_next_request_of_an_open_connection() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    client.write_all(request).await.unwrap();
    read_until(&mut client, "via: 1.1 whygate\r\n\r\n").await;
    proxy.snapshot.send_replace(std::sync::Arc::new(crate::support::snapshot(2, Vec::new())));
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    proxy.metric_becomes("whygate_snapshot_generation", 2).await;
}
