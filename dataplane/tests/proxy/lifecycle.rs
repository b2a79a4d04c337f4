//! Starting, draining, stopping: nothing in flight is lost.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use dataplane::{Certificates, Dataplane, EndpointTable, Inputs, Limits, Settings, TraceSettings};
use decision::{
    client::AddressSource,
    refs::{Kind, ResourceRef},
    route::ServicePort,
    snapshot::Snapshot,
};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, interval, timeout},
};

use crate::support::{
    HANGS, Plan, Proxy, Upstream, endpoints, raw, read_to_end, read_until, require_method,
    snapshot_of,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";

#[tokio::test]
async fn a_connection_on_which_nobody_asked_for_a_while_is_served_as_before() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits.keep_alive_idle = Duration::from_millis(2_400);
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    for _ in 0..2 {
        client.write_all(REQUEST).await.unwrap();
        read_until(&mut client, "via: 1.1 whygate\r\n\r\n").await;
        let silence = timeout(Duration::from_millis(1_200), client.read_u8()).await;
        assert!(silence.is_err(), "nothing was asked");
    }
    assert_eq!(proxy.metric("whygate_connections"), 1);
    // Its end is noticed without buffers, too, whoever's it is.
    let mut other = TcpStream::connect(proxy.http()).await.unwrap();
    other.write_all(REQUEST).await.unwrap();
    drop(client);
    proxy.metric_becomes("whygate_connections", 1).await;
    assert!(read_to_end(&mut other).await.ends_with("via: 1.1 whygate\r\n\r\n"));
    proxy.metric_becomes("whygate_connections", 0).await;
}

#[tokio::test]
async fn the_beginning_of_a_request_that_never_comes_keeps_no_thread_busy() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = TcpStream::connect(proxy.http()).await.unwrap();
        client.write_all(&[REQUEST, b"G"].concat()).await.unwrap();
        read_until(&mut client, "via: 1.1 whygate\r\n\r\n").await;
        waiting.push(client);
    }
    let silence = timeout(Duration::from_millis(1_500), waiting[0].read_u8()).await;
    assert!(silence.is_err(), "nothing was asked");
    for _ in 0..8 {
        let mut client = TcpStream::connect(proxy.http()).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        read_until(&mut client, "via: 1.1 whygate\r\n\r\n").await;
    }
    for mut client in waiting {
        client.write_all(&REQUEST[1..]).await.unwrap();
        let answer = read_until(&mut client, "via: 1.1 whygate\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_body_is_no_request_however_late_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 200\r\n\r\nbegin";
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\nbegin").await;
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    read_until(&mut client, "done").await;
    let silence = timeout(Duration::from_millis(1_500), client.read_u8()).await;
    assert!(silence.is_err(), "nothing was asked");
    client.write_all(REQUEST).await.unwrap();
    let answer = timeout(Duration::from_millis(500), client.read_u8()).await;
    assert!(!matches!(answer, Ok(Ok(_))), "there is no second request");
    assert_eq!(proxy.metric("whygate_permits_total"), 1);
}

#[tokio::test]
async fn stopping_waits_for_the_request_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let address = proxy.http();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let stopping = tokio::spawn(async move { proxy.dataplane.stop(HANGS).await });
    while TcpStream::connect(address).await.is_ok() {}
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("done"), "{answer}");
    assert_eq!(timeout(HANGS, stopping).await.unwrap().unwrap().lost, 0);
}

#[tokio::test]
async fn what_outlives_the_grace_is_counted_as_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Plan::new(&[listener.local_addr().unwrap()]).start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let stopped = timeout(HANGS, proxy.dataplane.stop(Duration::from_millis(50))).await.unwrap();
    assert_eq!(stopped.lost, 1);
    assert_eq!(timeout(HANGS, proxy.dataplane.stop(HANGS)).await.unwrap(), stopped);
}

#[tokio::test]
async fn draining_goes_on_serving_and_ends_each_connection_with_its_response() {
    let upstream = Upstream::echo().await;
    let proxy = Plan::new(&[upstream.address]).start();
    let mut kept = TcpStream::connect(proxy.http()).await.unwrap();
    kept.write_all(REQUEST).await.unwrap();
    read_until(&mut kept, "via: 1.1 whygate\r\n\r\n").await;
    proxy.dataplane.start_draining();
    let closing = async {
        loop {
            let mut new = TcpStream::connect(proxy.http()).await.unwrap();
            new.write_all(REQUEST).await.unwrap();
            let answer = read_until(&mut new, "via: 1.1 whygate\r\n\r\n").await;
            if answer.contains("connection: close\r\n") {
                return;
            }
        }
    };
    timeout(HANGS, closing).await.unwrap();
    kept.write_all(REQUEST).await.unwrap();
    let answer = read_to_end(&mut kept).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stop_under_load_loses_nothing() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits = Limits { linger: Duration::from_millis(200), ..Limits::default() };
    let proxy = plan.start();
    let address = proxy.http();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        clients.spawn(until_asked_to_close(address));
    }
    proxy.metric_becomes_at_least("whygate_upstream_requests_total", 200).await;
    proxy.dataplane.start_draining();
    let stopped = timeout(HANGS, proxy.dataplane.stop(HANGS)).await.unwrap();
    let served: usize = timeout(HANGS, clients.join_all()).await.unwrap().into_iter().sum();
    assert_eq!(stopped.lost, 0);
    assert_eq!(served as u64, upstream.requests());
    assert!(upstream.connections() <= 32, "{} for 16 clients", upstream.connections());
}

/// Sends one request after the other until a response says that it is the last; gives their number.
async fn until_asked_to_close(address: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    for served in 1.. {
        stream.write_all(REQUEST).await.unwrap();
        let answer = read_until(&mut stream, "via: 1.1 whygate\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        if answer.contains("connection: close\r\n") {
            return served;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn an_old_connection_ends_with_its_response() {
    let upstream = Upstream::echo().await;
    let mut plan = Plan::new(&[upstream.address]);
    plan.limits = Limits { connection_age: Duration::ZERO, ..Limits::default() };
    let proxy = plan.start();
    let mut client = TcpStream::connect(proxy.http()).await.unwrap();
    client.write_all(REQUEST).await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

/// What clients saw while snapshots changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    served: usize,
    refused: usize,
    /// The policy of one generation, the backend of another.
    mixed: usize,
    /// Neither served nor refused by the policy.
    lost: usize,
}

/// How long snapshots follow each other: `WHYGATE_SNAPSHOT_SECONDS`, or 2 s.
fn storm() -> Duration {
    let seconds = std::env::var("WHYGATE_SNAPSHOT_SECONDS").ok();
    Duration::from_secs(seconds.map_or(2, |seconds| seconds.parse().unwrap()))
}

fn backend_of(method: &Method) -> ServicePort {
    let name = if *method == Method::GET { "reading" } else { "writing" };
    ServicePort { service: ResourceRef::new(Kind::Service, "shop", name), port: 80 }
}

/// An odd generation lets only GET pass, to one backend, an even one only POST, to another: of two
/// generations mixed, a method would reach the other's backend.
fn generation(number: u64) -> Arc<Snapshot> {
    let method = if number % 2 == 1 { Method::GET } else { Method::POST };
    let backend = backend_of(&method);
    Arc::new(snapshot_of(number, vec![("shop.test", require_method(method), backend)]))
}

/// A proxy with a backend for each method, and the two upstreams.
async fn two_backends() -> (Proxy, [Upstream; 2]) {
    let named = |name: &'static str| {
        Upstream::start(move |_| {
            format!("HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: 0\r\n\r\n")
        })
    };
    let (reading, writing) = (named("GET").await, named("POST").await);
    let proxy = Plan::new(&[]).start();
    let table = [(Method::GET, &reading), (Method::POST, &writing)]
        .map(|(method, upstream)| (backend_of(&method), endpoints([upstream.address])));
    proxy.endpoints.send_replace(Arc::new(EndpointTable(table.into())));
    proxy.snapshot.send_replace(generation(2));
    timeout(HANGS, proxy.dataplane.metrics().reached(2)).await.unwrap();
    (proxy, [reading, writing])
}

/// Clients that ask until then, and what they see.
fn clients(proxy: &Proxy, ends: Instant) -> impl Future<Output = Seen> + use<> {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        clients.spawn(ask_until(proxy.http(), ends));
    }
    async move {
        clients.join_all().await.into_iter().fold(Seen::default(), |sum, seen| Seen {
            served: sum.served + seen.served,
            refused: sum.refused + seen.refused,
            mixed: sum.mixed + seen.mixed,
            lost: sum.lost + seen.lost,
        })
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures of a long run are its result")]
async fn snapshots_that_follow_each_other_fast_lose_and_mix_nothing() {
    let (proxy, upstreams) = two_backends().await;
    proxy.metric_becomes("whygate_snapshot_generation", 2).await;
    let never = timeout(Duration::from_millis(50), proxy.dataplane.metrics().reached(3)).await;
    assert!(never.is_err(), "a generation that is not there");
    let ends = Instant::now() + storm();
    let seen = clients(&proxy, ends);
    let mut number = 2;
    let mut pace = interval(Duration::from_millis(10));
    while Instant::now() < ends {
        pace.tick().await;
        number += 1;
        proxy.snapshot.send_replace(generation(number));
    }
    let seen = seen.await;
    println!("{} snapshots: {seen:?}", number - 2);
    assert_eq!((seen.mixed, seen.lost), (0, 0), "{seen:?}");
    assert!(seen.served > 0 && seen.refused > 0, "{seen:?}");
    let reached: u64 = upstreams.iter().map(Upstream::requests).sum();
    assert_eq!(reached, seen.served as u64);
    proxy.metric_becomes("whygate_snapshot_generation", number).await;
}

/// Between two looks of one request lie microseconds: only snapshots as near as that to each other
/// tell whether it looked twice.
#[tokio::test]
async fn snapshots_that_follow_each_other_without_a_pause_mix_nothing() {
    let (proxy, _upstreams) = two_backends().await;
    let ends = Instant::now() + Duration::from_secs(1);
    let seen = clients(&proxy, ends);
    let sender = proxy.snapshot.clone();
    let snapshots = [generation(1), generation(2)];
    let sent = tokio::task::spawn_blocking(move || {
        let mut sent = 0;
        while Instant::now() < ends {
            for snapshot in &snapshots {
                sender.send_replace(Arc::clone(snapshot));
                sent += 1;
            }
        }
        sent
    });
    let (seen, sent) = (seen.await, sent.await.unwrap());
    assert_eq!((seen.mixed, seen.lost), (0, 0), "{seen:?} of {sent} snapshots");
    assert!(seen.served > 0 && seen.refused > 0, "{seen:?} of {sent} snapshots");
    assert!(sent > 10_000, "{sent} snapshots only");
}

/// Asks with both methods in turn, on one connection as long as it lasts.
async fn ask_until(address: SocketAddr, ends: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut stream = TcpStream::connect(address).await.unwrap();
    for method in ["GET", "POST"].into_iter().cycle() {
        if Instant::now() >= ends {
            break;
        }
        let request =
            format!("{method} / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\n\r\n");
        let Some(answer) = exchange(&mut stream, &request).await else {
            seen.lost += 1;
            stream = TcpStream::connect(address).await.unwrap();
            continue;
        };
        let backend = answer.lines().find_map(|line| line.strip_prefix("x-backend: "));
        match backend {
            Some(backend) if backend == method => seen.served += 1,
            Some(_) => seen.mixed += 1,
            None if answer.contains("whygate-denial-code: MethodRefused\r\n") => seen.refused += 1,
            None => seen.lost += 1,
        }
    }
    seen
}

/// A request and the whole of its answer; none if the connection ended before.
async fn exchange(stream: &mut TcpStream, request: &str) -> Option<String> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let mut bytes = [0; 4096];
    loop {
        let read = timeout(HANGS, stream.read(&mut bytes)).await.ok()?.ok()?;
        answer.push_str(std::str::from_utf8(bytes.get(..read).filter(|_| read > 0)?).ok()?);
        if let Some((head, body)) = answer.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() >= length.parse().ok()? {
                return Some(answer);
            }
        }
    }
}

#[tokio::test]
async fn an_old_snapshot_is_given_up_without_a_request() {
    let proxy = Plan::new(&[]).start();
    let old = Arc::downgrade(&proxy.snapshot.borrow());
    proxy.snapshot.send_replace(Arc::default());
    let freed = async {
        while old.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(HANGS, freed).await.is_ok());
}

#[tokio::test]
async fn a_port_in_use_is_one_sentence_that_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings {
        http: vec![address],
        https: Vec::new(),
        threads: NonZeroUsize::MIN,
        address_source: AddressSource::default(),
        limits: Limits::default(),
        replica: 0,
        redirect_port: None,
        access_log: None,
        traces: TraceSettings::default(),
    };
    let inputs = Inputs {
        snapshot: watch::channel(Arc::<Snapshot>::default()).1,
        endpoints: watch::channel(Arc::<EndpointTable>::default()).1,
        certificates: watch::channel(Arc::<Certificates>::default()).1,
    };
    let error = Dataplane::start(settings, inputs, mpsc::channel(1).0).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot listen on `{address}`")), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[tokio::test]
async fn a_data_plane_that_is_dropped_lets_its_port_go() {
    let proxy = Plan::new(&[]).start();
    let address = proxy.http();
    assert!(proxy.dataplane.alive());
    assert!(
        raw(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .contains("404")
    );
    drop(proxy);
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    assert!(timeout(HANGS, closed).await.is_ok());
}
