//! What is told of exchanges once they have ended: one entry each, however they end.

use std::{num::NonZeroU32, sync::Arc, thread, time::Duration};

use dataplane::{Access, Limits, TraceSettings, TraceSource};
use decision::policy::Enforcement;
use http::Version;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::{
    options::compression::compressing,
    secure::{certificate, check_http2, connect, table},
    support::{HANGS, Plan, Proxy, Upstream, read_to_end, read_until, require, snapshot},
    tunnels::{Tunnel, tunnel},
};

/// An entry, with what differs from run to run left out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    line: String,
    id: String,
    duration: Duration,
    first_byte: Option<Duration>,
    spoken: (Version, Option<&'static str>),
}

impl Told {
    fn of(access: Access<'_>) -> Self {
        let Access { outcome, host, path, query } = access;
        let route = outcome.route.as_ref().map_or("no route".to_owned(), ToString::to_string);
        let status = outcome.status.map_or("-".to_owned(), |status| status.as_u16().to_string());
        let refusal = outcome.refusal.as_ref().map_or(String::new(), |refusal| {
            let policy = refusal.policy.as_ref().map(ToString::to_string);
            let blamed = policy.zip(refusal.rule.as_deref());
            let blamed = blamed.map(|(policy, rule)| format!(" by {policy} {rule}"));
            format!(", {}{}", refusal.code, blamed.unwrap_or_default())
        });
        let upstream = if outcome.upstream.is_some() { "asked" } else { "not asked" };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let line = format!(
            "{} {host}{path}{query} -> {status} {}, in {}, out {}, {route}, upstream {upstream}{refusal}",
            outcome.method,
            outcome.end.as_str(),
            outcome.received,
            outcome.sent,
        );
        assert!(outcome.client.is_loopback(), "{outcome:?}");
        let (duration, first_byte) = (outcome.duration, outcome.first_byte);
        assert!(first_byte.is_none_or(|first_byte| first_byte <= duration), "{outcome:?}");
        let spoken = (outcome.version, outcome.tls);
        Self { line, id: outcome.id.to_string(), duration, first_byte, spoken }
    }
}

/// A proxy with everything that it tells.
pub(crate) struct Watched {
    pub(crate) proxy: Proxy,
    told: mpsc::Receiver<Told>,
}

impl Watched {
    pub(crate) fn start(mut plan: Plan, one_in: u32) -> Self {
        plan.access_log = NonZeroU32::new(one_in);
        let mut proxy = plan.start();
        let mut reader = proxy.dataplane.access_log().unwrap();
        assert!(proxy.dataplane.access_log().is_none(), "there is one reader");
        let (sender, told) = mpsc::channel(1_000);
        // It ends with the data plane.
        drop(thread::spawn(move || {
            while reader.read(|access| drop(sender.blocking_send(Told::of(access)))) {}
        }));
        Self { proxy, told }
    }

    async fn next(&mut self) -> Told {
        timeout(HANGS, self.told.recv()).await.unwrap().unwrap()
    }

    /// Everything that is left once the proxy has stopped.
    pub(crate) async fn rest(mut self) -> Vec<String> {
        self.proxy.dataplane.stop(Duration::ZERO).await;
        drop(self.proxy);
        let mut lines = Vec::new();
        while let Some(told) = timeout(HANGS, self.told.recv()).await.unwrap() {
            lines.push(told.line);
        }
        lines
    }
}

#[tokio::test]
async fn an_exchange_is_told_once_with_its_sizes_and_its_endpoint() {
    let upstream =
        Upstream::start(|_| "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello".to_owned())
            .await;
    let mut watched = Watched::start(Plan::new(&[upstream.address]), 1);
    let request = "POST /a/../b?token=x HTTP/1.1\r\nhost: SHOP.test\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    let answer = watched.proxy.raw(request).await;
    let told = watched.next().await;
    let expected = "POST shop.test/b?token=x -> 404 complete, in 3, out 5, shop/web shop.test/, upstream asked";
    assert_eq!(told.line, expected);
    assert!(answer.contains(&told.id), "{answer} {told:?}");
    assert_eq!(told.spoken, (Version::HTTP_11, None));
    assert!(told.first_byte.is_some() && told.duration > Duration::ZERO, "{told:?}");
    assert_eq!(watched.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_is_told_with_the_policy_and_the_rule_and_one_of_nobody_without() {
    let mut watched = Watched::start(Plan::new(&[]), 1);
    for (host, expected) in [
        (
            "office.test",
            "403 complete, in 0, out BODY, shop/web office.test/, upstream not asked, AddressNotAllowed by AccessPolicy shop/office office",
        ),
        (
            "nobody.test",
            "404 complete, in 0, out BODY, no route, upstream not asked, RouteNotFound",
        ),
        (
            "shop.test",
            "503 complete, in 0, out BODY, shop/web shop.test/, upstream not asked, NoEndpoints",
        ),
    ] {
        let answer = watched.proxy.get(host, "/", "").await;
        let body = answer.split_once("\r\n\r\n").unwrap().1.len().to_string();
        let expected = format!("GET {host}/ -> {}", expected.replace("BODY", &body));
        assert_eq!(watched.next().await.line, expected);
    }
}

#[tokio::test]
async fn what_fails_is_told_with_the_endpoint_that_failed() {
    let upstream = Upstream::start(|_| String::new()).await;
    let mut watched = Watched::start(Plan::new(&[upstream.address]), 1);
    watched.proxy.get("shop.test", "/", "").await;
    let line = watched.next().await.line;
    assert!(line.contains("-> 502 complete") && line.ends_with("asked, UpstreamReset"), "{line}");
}

#[tokio::test]
async fn a_download_that_breaks_off_is_told_as_cut_off_whoever_ended_it() {
    let upstream = Upstream::start(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhello".to_owned()
    })
    .await;
    let mut watched = Watched::start(Plan::new(&[upstream.address]), 1);
    watched.proxy.get("shop.test", "/", "").await;
    let cut = "GET shop.test/ -> 200 cut-off, in 0, out 5, shop/web shop.test/, upstream asked";
    assert_eq!(watched.next().await.line, format!("{cut}, UpstreamReset"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut watched = Watched::start(Plan::new(&[listener.local_addr().unwrap()]), 1);
    let mut client = TcpStream::connect(watched.proxy.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
    read_until(&mut client, "hello").await;
    drop(client);
    assert_eq!(watched.next().await.line, cut);
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_told_of_without_a_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut watched = Watched::start(Plan::new(&[listener.local_addr().unwrap()]), 1_000_000);
    let mut client = TcpStream::connect(watched.proxy.http()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    drop(client);
    let line = watched.next().await.line;
    assert!(line.starts_with("GET shop.test/ -> - unanswered, in 0, out 0,"), "{line}");
}

#[tokio::test]
async fn a_tunnel_is_told_when_it_ends_and_no_sooner() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut watched = Watched::start(Plan::new(&[listener.local_addr().unwrap()]), 1);
    let Tunnel { mut client, mut upstream, .. } = tunnel(&watched.proxy, &listener, "tcp").await;
    client.write_all(b"hello").await.unwrap();
    read_until(&mut upstream, "hello").await;
    upstream.write_all(b"you").await.unwrap();
    read_until(&mut client, "you").await;
    assert!(watched.told.try_recv().is_err(), "it is still open");
    upstream.shutdown().await.unwrap();
    read_to_end(&mut client).await;
    drop(client);
    let expected =
        "GET shop.test/chat -> 101 complete, in 5, out 3, shop/web shop.test/, upstream asked";
    assert_eq!(watched.next().await.line, expected);
    assert_eq!(watched.rest().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_tunnel_that_policies_close_is_told_with_the_rule_that_did() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut watched = Watched::start(Plan::new(&[listener.local_addr().unwrap()]), 1_000_000);
    let Tunnel { mut client, upstream: _upstream, .. } =
        tunnel(&watched.proxy, &listener, "tcp").await;
    let closed = require("203.0.113.0/24", Enforcement::Enforce);
    watched.proxy.snapshot.send_replace(Arc::new(snapshot(2, vec![("shop.test", closed)])));
    read_to_end(&mut client).await;
    drop(client);
    let line = watched.next().await.line;
    assert!(line.starts_with("GET shop.test/chat -> 101 cut-off, in 0, out 0, "), "{line}");
    assert!(line.ends_with("AddressNotAllowed by AccessPolicy shop/office office"), "{line}");
}

#[tokio::test]
async fn streams_of_http2_over_tls_are_told_one_by_one() {
    let upstream = Upstream::echo().await;
    let (key, der) = certificate("shop.test");
    let mut plan = Plan::new(&[upstream.address]);
    plan.certificates = table(&[("shop.test", &key)]);
    let mut watched = Watched::start(plan, 1);
    let address = watched.proxy.https();
    check_http2(connect(address, "shop.test", &der, "h2").await.unwrap(), "https").await;
    let mut sizes = Vec::new();
    for _ in 0..20 {
        let told = watched.next().await;
        assert_eq!(told.spoken, (Version::HTTP_2, Some("TLSv1.3")));
        let number = told.line.strip_prefix("POST shop.test/").unwrap().split_once(' ').unwrap().0;
        let said = format!("/{number} -> 200 complete, in {number}, out ");
        assert!(told.line.contains(&said), "{}", told.line);
        sizes.push(number.parse::<u32>().unwrap());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_response_of_unknown_length_and_one_without_a_body_are_complete() {
    let upstream = Upstream::start(|request| {
        let chunks = if request.starts_with("HEAD") { "" } else { "5\r\nhello\r\n0\r\n\r\n" };
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")
    })
    .await;
    let mut watched = Watched::start(Plan::new(&[upstream.address]), 1);
    for (method, bytes) in [("GET", 5), ("HEAD", 0)] {
        let request =
            format!("{method} / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n");
        watched.proxy.raw(&request).await;
        let line = watched.next().await.line;
        let expected = format!("{method} shop.test/ -> 200 complete, in 0, out {bytes}, ");
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[tokio::test]
async fn a_long_response_that_is_kept_without_its_snapshot_is_told_in_full() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut plan = Plan::new(&[listener.local_addr().unwrap()]);
    plan.limits = Limits { long_exchange: Duration::ZERO, ..Limits::default() };
    let mut watched = Watched::start(plan, 1);
    let mut client = TcpStream::connect(watched.proxy.http()).await.unwrap();
    let request = "GET /long?a=b HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await.unwrap();
    read_until(&mut client, "hello").await;
    upstream.write_all(b" you").await.unwrap();
    read_to_end(&mut client).await;
    let expected =
        "GET shop.test/long?a=b -> 200 complete, in 0, out 9, shop/web shop.test/, upstream asked";
    assert_eq!(watched.next().await.line, expected);
}

#[tokio::test]
async fn what_was_compressed_is_told_by_the_bytes_that_the_client_got() {
    let body = "a".repeat(100_000);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/css\r\ncontent-length: 100000\r\n\r\n{body}"
    );
    let upstream = Upstream::start(move |_| answer.clone()).await;
    let plan = Plan::new(&[upstream.address]).with(compressing());
    let mut watched = Watched::start(plan, 1);
    let request =
        "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\naccept-encoding: gzip\r\n\r\n";
    let mut client = TcpStream::connect(watched.proxy.http()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(HANGS, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    let line = watched.next().await.line;
    let told = line.strip_prefix("GET shop.test/ -> 200 complete, in 0, out ").unwrap();
    let told: usize = told.split(',').next().unwrap().parse().unwrap();
    assert!(told > 20 && told < answer.len() && told < 1_000, "{told} of {}", answer.len());
}

#[tokio::test]
async fn of_what_goes_well_a_part_is_told_and_of_what_does_not_all() {
    let upstream = Upstream::echo().await;
    let watched = Watched::start(Plan::new(&[upstream.address]), u32::MAX);
    for _ in 0..5 {
        watched.proxy.get("shop.test", "/", "").await;
        watched.proxy.get("office.test", "/", "").await;
    }
    let lines = watched.rest().await;
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("AddressNotAllowed")), "{lines:?}");
}

#[tokio::test]
async fn a_reader_that_stops_costs_entries_and_no_request() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.access_log = NonZeroU32::new(1);
    let mut proxy = plan.start();
    let _idle = proxy.dataplane.access_log();
    let request = "GET / HTTP/1.1\r\nhost: nobody.test\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nhost: nobody.test\r\nconnection: close\r\n\r\n";
    let (mut read, mut write) = TcpStream::connect(proxy.http()).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        write.write_all((request.repeat(9_999) + last).as_bytes()).await.unwrap();
        write
    });
    let mut answers = String::new();
    timeout(HANGS, read.read_to_string(&mut answers)).await.unwrap().unwrap();
    drop(writing.await.unwrap());
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 10_000);
    assert!(proxy.metric("whygate_access_log_dropped_total") > 1_000);
    assert!(proxy.get("shop.test", "/", "").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn durations_are_counted_by_route_and_a_tunnel_until_it_begins() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    for host in ["shop.test", "shop.test", "office.test", "nobody.test"] {
        proxy.get(host, "/", "").await;
    }
    for (route, count) in [("shop/web shop.test/", 2), ("shop/web office.test/", 1), ("other", 1)] {
        let name = format!("whygate_request_duration_seconds_count{{route=\"{route}\"}}");
        proxy.metric_becomes(&name, count).await;
        let all =
            format!("whygate_request_duration_seconds_bucket{{le=\"+Inf\",route=\"{route}\"}}");
        assert_eq!(proxy.metric(&all), count, "{all}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let open = tunnel(&proxy, &listener, "tcp").await;
    let name = "whygate_request_duration_seconds_count{route=\"shop/web shop.test/\"}";
    proxy.metric_becomes(name, 1).await;
    drop(open);
}

const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0b1902b7-01\r\n";

#[tokio::test]
async fn a_trace_is_passed_on_as_it_came_unless_spans_are_told() {
    let upstream = Upstream::echo().await;
    let headers = format!("{PARENT}tracestate: a=b\r\n");
    let proxy = Plan::new(&[upstream.address]).start();
    let answer = proxy.get("shop.test", "/", &headers).await;
    assert!(answer.contains(PARENT) && answer.contains("tracestate: a=b\r\n"), "{answer}");

    let mut plan = Plan::new(&[upstream.address]);
    plan.traces =
        TraceSettings { source: TraceSource::Everybody, one_in: NonZeroU32::new(u32::MAX) };
    let mut proxy = plan.start();
    let mut reader = proxy.dataplane.spans().unwrap();
    let answer = proxy.get("shop.test", "/", &headers).await;
    let unsampled = proxy.get("shop.test", "/none", "").await;
    assert!(unsampled.contains("traceparent: 00-") && unsampled.contains("-00\r\n"), "{unsampled}");
    let mut spans = Vec::new();
    reader.read(|access| spans.push((access.path.to_owned(), access.outcome.trace.unwrap())));
    let [(path, trace)] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(
        (path.as_str(), trace.id.to_string().as_str()),
        ("/", "4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(trace.parent.unwrap().to_string(), "00f067aa0b1902b7");
    let expected = format!("traceparent: 00-{}-{}-01\r\n", trace.id, trace.span.unwrap());
    assert!(answer.contains(&expected) && answer.contains("tracestate: a=b\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_cannot_have_our_step_of_a_trace_removed() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.traces = TraceSettings { source: TraceSource::Everybody, one_in: NonZeroU32::new(1) };
    let proxy = plan.start();
    let headers = format!("{PARENT}connection: traceparent, close\r\n");
    let request = format!("GET / HTTP/1.1\r\nhost: shop.test\r\n{headers}\r\n");
    let answer = proxy.raw(&request).await;
    let ours = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-";
    assert!(answer.contains(ours) && !answer.contains(PARENT), "{answer}");
}

#[tokio::test]
async fn a_strangers_trace_ends_where_only_trusted_proxies_are_believed() {
    let upstream = Upstream::echo().await;
    for (trusted, passes) in [("203.0.113.0/24", false), ("127.0.0.0/8", true)] {
        let mut plan = Plan::new(&[upstream.address]);
        plan.traces.source = TraceSource::TrustedProxies;
        plan.source.trusted_proxies = [trusted.parse().unwrap()].into_iter().collect();
        let proxy = plan.start();
        let answer = proxy.get("shop.test", "/", PARENT).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(answer.contains("traceparent"), passes, "{answer}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_trace() {
    let mut plan = Plan::new(&[]);
    plan.access_log = NonZeroU32::new(1);
    let mut proxy = plan.start();
    proxy.get("office.test", "/", PARENT).await;
    let trace = proxy.samples.recv().await.unwrap().trace;
    assert_eq!(trace.unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
}
