//! Which endpoint gets a request: one with room, and none that fails again and again.

use bytes::Bytes;
use decision::options::{Affinity, Options};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http2};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet, time::timeout};

use crate::support::{HANGS, Plan, Proxy, Upstream, endpoints, http2_client, nobody, read_until};

type Sender = http2::SendRequest<Empty<Bytes>>;

async fn ask(mut sender: Sender, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://shop.test{path}")).body(Empty::new()).unwrap();
    timeout(HANGS, sender.send_request(request)).await.unwrap().unwrap()
}

fn code(response: &Response<Incoming>) -> Option<&str> {
    response.headers().get("whygate-denial-code").map(|code| code.to_str().unwrap())
}

#[tokio::test]
async fn a_full_endpoint_lets_as_many_wait_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits.upstream_connections = 1;
    let mut proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let first = tokio::spawn(ask(sender.clone(), "/first"));
    let (mut upstream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    assert!(read_until(&mut upstream, "\r\n\r\n").await.starts_with("GET /first "));
    let second = tokio::spawn(ask(sender.clone(), "/second"));
    proxy.metric_becomes("whygate_upstream_waits_total", 1).await;
    let third = ask(sender.clone(), "/third").await;
    assert_eq!((third.status().as_u16(), code(&third)), (503, Some("UpstreamOverloaded")));
    assert_eq!(third.headers().get("retry-after").unwrap(), "1");
    let sample = proxy.samples.recv().await.unwrap();
    assert!(sample.observed.contains("had no room"), "{sample:?}");
    assert!(sample.remedy.contains("--upstream-connection-limit-count"), "{sample:?}");
    for (path, asked) in [("/first", first), ("/second", second)] {
        if path == "/second" {
            let head = read_until(&mut upstream, "\r\n\r\n").await;
            assert!(head.starts_with("GET /second "), "on the same connection: {head}");
        }
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let response = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    assert_eq!(proxy.metric("whygate_upstream_connections_total"), 1);
    let permits = proxy.metric("whygate_permits_total");
    let sent = proxy.metric("whygate_upstream_requests_total");
    assert_eq!((permits, sent, proxy.metric("whygate_upstream_connect_failures_total")), (3, 2, 1));
}

#[tokio::test]
async fn who_leaves_while_waiting_gives_the_place_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits.upstream_connections = 1;
    let proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let first = tokio::spawn(ask(sender.clone(), "/first"));
    let (mut upstream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let leaving = tokio::spawn(ask(sender.clone(), "/leaving"));
    proxy.metric_becomes("whygate_upstream_waits_total", 1).await;
    leaving.abort();
    proxy.metric_becomes("whygate_requests_in_flight", 1).await;
    let staying = tokio::spawn(ask(sender.clone(), "/staying"));
    proxy.metric_becomes("whygate_upstream_waits_total", 2).await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(first.await.unwrap().status().as_u16(), 200);
    let head = read_until(&mut upstream, "\r\n\r\n").await;
    assert!(head.starts_with("GET /staying "), "{head}");
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(timeout(HANGS, staying).await.unwrap().unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_burst_of_streams_leaves_its_connections_to_the_next_one() {
    const COUNT: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits.streams = std::num::NonZeroU32::new(200).unwrap();
    let proxy = plan.start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let mut upstream = Vec::new();
    for round in 0..2 {
        let mut asked = JoinSet::new();
        for _ in 0..COUNT {
            let asking = ask(sender.clone(), "/");
            asked.spawn(async { asking.await.into_body().collect().await.unwrap().to_bytes() });
        }
        while upstream.len() < COUNT {
            upstream.push(timeout(HANGS, listener.accept()).await.unwrap().unwrap().0);
        }
        for connection in &mut upstream {
            let head = read_until(connection, "\r\n\r\n").await;
            assert!(head.starts_with("GET / "), "round {round}: {head}");
        }
        for connection in &mut upstream {
            connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
        while let Some(answer) = timeout(HANGS, asked.join_next()).await.unwrap() {
            assert_eq!(answer.unwrap(), "ok");
        }
    }
    assert_eq!(proxy.metric("whygate_upstream_connections_total"), 100);
}

#[tokio::test]
async fn an_endpoint_that_refuses_again_and_again_is_left_alone() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[nobody().await, upstream.address]).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    for _ in 0..80 {
        assert_eq!(ask(sender.clone(), "/").await.status().as_u16(), 200);
    }
    // A slow run may see it come back.
    let retries = proxy.metric("whygate_upstream_retries_total");
    assert!((5..=12).contains(&retries), "{retries} of 80");
    assert!(proxy.metric("whygate_upstream_ejections_total") >= 1);
    assert_eq!(upstream.requests(), 80);
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_again_and_again_is_left_alone() {
    let breaking = Upstream::start(|_| String::new()).await;
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[breaking.address, upstream.address]).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    let mut failed = 0;
    for _ in 0..80 {
        let response = ask(sender.clone(), "/").await;
        match code(&response) {
            None => assert_eq!(response.status().as_u16(), 200),
            Some(code) => {
                assert_eq!(code, "UpstreamReset");
                failed += 1;
            }
        }
    }
    assert!((5..=12).contains(&failed), "{failed} of 80");
    assert_eq!(failed, breaking.requests());
}

#[tokio::test]
async fn the_last_endpoint_is_asked_however_often_it_failed() {
    let address = nobody().await;
    let proxy = Plan::new(&[address]).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    for _ in 0..12 {
        let response = ask(sender.clone(), "/").await;
        assert_eq!(code(&response), Some("UpstreamConnectFailed"));
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let asked = tokio::spawn(ask(sender.clone(), "/"));
    let (mut upstream, _) = timeout(HANGS, listener.accept()).await.unwrap().unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(asked.await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn no_more_than_half_of_the_endpoints_are_left_alone() {
    let addresses = [nobody().await, nobody().await, nobody().await, nobody().await];
    let proxy = Plan::new(&addresses).start();
    let (sender, _tasks) = http2_client(&proxy).await;
    for _ in 0..60 {
        let response = ask(sender.clone(), "/").await;
        assert_eq!(code(&response), Some("UpstreamConnectFailed"), "never without an endpoint");
    }
    let upstream = Upstream::echo().await;
    let table = dataplane::EndpointTable(
        [(crate::support::service(), endpoints(addresses.into_iter().chain([upstream.address])))]
            .into(),
    );
    proxy.endpoints.send_replace(table.into());
    let mut served = 0;
    for _ in 0..60 {
        served += u32::from(ask(sender.clone(), "/").await.status().as_u16() == 200);
    }
    assert!(served > 10, "{served} of 60, although one endpoint of five is sound");
}

/// Three endpoints that say which they are.
async fn three() -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for number in 0..3 {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
        upstreams.push(Upstream::start(move |_| answer.clone()).await);
    }
    upstreams
}

fn sticky(upstreams: &[Upstream], affinity: Affinity) -> Proxy {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    Plan::new(&addresses).with(Options { affinity: Some(affinity), ..Options::default() }).start()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_cookie_leads_its_client_back_until_its_endpoint_is_gone() {
    let upstreams = three().await;
    let proxy = sticky(&upstreams, Affinity::Cookie);
    let first = proxy.get("shop.test", "/", "").await;
    let cookie = |answer: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        line.map(str::to_owned)
    };
    let told = cookie(&first).unwrap();
    assert!(told.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{told}");
    let sent = format!("cookie: a=b; {}\r\n", told.split(';').next().unwrap());
    for _ in 0..20 {
        let answer = proxy.get("shop.test", "/", &sent).await;
        assert_eq!((body(&answer), cookie(&answer)), (body(&first), None), "{answer}");
    }
    let left = upstreams.iter().enumerate();
    let left = left.filter(|(number, _)| number.to_string() != body(&first));
    let left: Vec<_> = left.map(|(_, upstream)| upstream.address).collect();
    let table = dataplane::EndpointTable([(crate::support::service(), endpoints(left))].into());
    proxy.endpoints.send_replace(table.into());
    let moved = proxy.get("shop.test", "/", &sent).await;
    assert_ne!(body(&moved), body(&first));
    assert!(cookie(&moved).is_some_and(|new| new != told), "{moved}");
}

#[tokio::test]
async fn an_address_or_a_header_leads_to_one_endpoint_without_a_cookie() {
    let upstreams = three().await;
    for affinity in [Affinity::Address, Affinity::Header(http::HeaderName::from_static("x-user"))] {
        let by_address = affinity == Affinity::Address;
        let proxy = sticky(&upstreams, affinity);
        let mut seen = std::collections::HashSet::new();
        for user in 0..12 {
            let header = format!("x-user: {user}\r\n");
            let first = proxy.get("shop.test", "/", &header).await;
            assert!(!first.contains("set-cookie"), "{first}");
            for _ in 0..3 {
                let again = proxy.get("shop.test", "/", &header).await;
                assert_eq!(body(&again), body(&first));
            }
            seen.insert(body(&first).to_owned());
        }
        assert_eq!(seen.len() == 1, by_address, "{seen:?}");
    }
}
