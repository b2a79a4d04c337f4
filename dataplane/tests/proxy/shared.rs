//! Connections to endpoints of HTTP/2 that many requests share: what one of them does to the others,
//! and what is left of it when it is over.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use decision::{
    policy::Enforcement,
    transport::{HttpVersion, Transport},
};
use h2::{Reason, RecvStream, SendStream, server};
use http::{Request, Response, StatusCode};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::support::{HANGS, Plan, Proxy, require, snapshot};

const SOON: Duration = Duration::from_millis(50);
/// More than all windows and buffers on the way hold.
const LARGE: usize = 8 * 1024 * 1024;

/// A request as the endpoint has it.
struct Asked {
    body: RecvStream,
    answer: server::SendResponse<Bytes>,
}

/// An endpoint whose answers the test makes.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    asked: mpsc::Receiver<Asked>,
    _task: JoinSet<()>,
}

impl Endpoint {
    /// One that allows so many streams on a connection.
    async fn start(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let (sender, asked) = mpsc::channel(100);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let sender = sender.clone();
                open.spawn(async move {
                    let mut builder = server::Builder::new();
                    let handshake = builder.max_concurrent_streams(streams).handshake(stream);
                    let mut connection = handshake.await.unwrap();
                    while let Some(Ok((request, answer))) = connection.accept().await {
                        let body = request.into_body();
                        sender.send(Asked { body, answer }).await.unwrap();
                    }
                });
            }
        });
        Self { address, connections, asked, _task: task }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::new(&[self.address]);
        plan.transport = Transport { http: HttpVersion::Two, tls: None };
        plan
    }

    async fn next(&mut self) -> Asked {
        timeout(HANGS, self.asked.recv()).await.unwrap().unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Asked {
    /// Answers with a body that goes on.
    fn begin(&mut self) -> SendStream<Bytes> {
        self.answer.send_response(Response::new(()), false).unwrap()
    }

    /// Answers without a body.
    fn end(&mut self) {
        self.answer.send_response(Response::new(()), true).unwrap();
    }
}

/// A client of HTTP/2 that takes nothing by itself.
struct Client {
    requests: h2::client::SendRequest<Bytes>,
    _task: JoinSet<()>,
}

impl Client {
    async fn connect(proxy: &Proxy) -> Self {
        Self::connect_with(proxy, 65_535).await
    }

    /// One that lets so much of each answer come.
    async fn connect_with(proxy: &Proxy, window: u32) -> Self {
        let stream = TcpStream::connect(proxy.http()).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(window).handshake(stream);
        let (requests, connection) = handshake.await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { drop(connection.await) });
        Self { requests, _task: task }
    }

    /// Asks; a body goes on until its other end is dropped.
    async fn ask(
        &mut self,
        with_body: bool,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut ready = timeout(HANGS, self.requests.clone().ready()).await.unwrap().unwrap();
        let method = if with_body { "POST" } else { "GET" };
        let request = Request::builder().method(method).uri("http://shop.test/");
        ready.send_request(request.body(()).unwrap(), !with_body).unwrap()
    }
}

async fn head(answer: h2::client::ResponseFuture) -> Response<RecvStream> {
    timeout(HANGS, answer).await.unwrap().unwrap()
}

/// Waits until the endpoint gets no more of a request.
async fn is_reset(body: &mut RecvStream) {
    let ended = async {
        loop {
            match body.data().await {
                Some(Ok(data)) => body.flow_control().release_capacity(data.len()).unwrap(),
                Some(Err(error)) => return error.is_reset(),
                None => return false,
            }
        }
    };
    assert!(timeout(HANGS, ended).await.unwrap(), "it ended as if it were whole");
}

#[tokio::test]
async fn a_revoked_exchange_sends_nothing_more_to_its_endpoint() {
    let mut endpoint = Endpoint::start(100).await;
    let mut plan = endpoint.plan();
    plan.limits.long_exchange = SOON;
    let proxy = plan.start();
    let mut client = Client::connect(&proxy).await;
    let (answer, mut upload) = client.ask(true).await;
    let mut asked = endpoint.next().await;
    let mut download = asked.begin();
    download.send_data(vec![0; LARGE].into(), false).unwrap();
    // Of the body nothing is taken, so that nobody asks for more of it.
    let _untaken = head(answer).await;
    upload.send_data("first".into(), false).unwrap();
    let refusing = require("203.0.113.0/24", Enforcement::Enforce);
    proxy.snapshot.send_replace(snapshot(2, vec![("shop.test", refusing)]).into());
    is_reset(&mut asked.body).await;
}

/// A request that was answered in full before its body was there.
async fn answered_early(
    endpoint: &mut Endpoint,
    client: &mut Client,
) -> (RecvStream, h2::SendStream<Bytes>) {
    let (answer, upload) = client.ask(true).await;
    let mut asked = endpoint.next().await;
    asked.end();
    assert_eq!(head(answer).await.status(), StatusCode::OK);
    (asked.body, upload)
}

/// Sends pieces of 20 bytes as far as the other side lets it; how many.
fn trickle(stream: &mut SendStream<Bytes>) -> usize {
    stream.reserve_capacity(LARGE);
    let count = stream.capacity() / 20;
    for _ in 0..count {
        stream.send_data(vec![0; 20].into(), false).unwrap();
    }
    count
}

#[tokio::test]
async fn small_pieces_that_clients_do_not_take_end_nobody_elses_requests() {
    let mut endpoint = Endpoint::start(100).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect_with(&proxy, 0).await;
    let (other, _) = client.ask(false).await;
    let mut asked_by_other = endpoint.next().await;
    let (mut untaken, mut pieces) = (Vec::new(), 0);
    for _ in 0..20 {
        let (answer, _) = client.ask(false).await;
        let mut asked = endpoint.next().await;
        let mut body = asked.begin();
        let answer = head(answer).await;
        pieces += trickle(&mut body);
        untaken.push((asked, body, answer));
    }
    assert!(pieces > 20_000, "{pieces}");
    asked_by_other.end();
    assert_eq!(head(other).await.status(), StatusCode::OK);
    assert_eq!(endpoint.connections(), 1);
}

#[tokio::test]
async fn the_head_of_an_answer_may_be_large() {
    let mut endpoint = Endpoint::start(100).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect(&proxy).await;
    let (answer, _) = client.ask(false).await;
    let large = Response::builder().header("x-large", "x".repeat(40_000)).body(()).unwrap();
    endpoint.next().await.answer.send_response(large, true).unwrap();
    let answer = head(answer).await;
    assert_eq!((answer.status(), answer.headers()["x-large"].len()), (StatusCode::OK, 40_000));
}

#[tokio::test]
async fn a_client_whose_small_pieces_nobody_takes_is_ended_as_a_flood() {
    let mut endpoint = Endpoint::start(100).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect(&proxy).await;
    let (_answer, mut upload) = client.ask(true).await;
    let _unread = endpoint.next().await;
    // More than the endpoint takes without being read, and so much in single bytes.
    upload.send_data(vec![0; 70_000].into(), false).unwrap();
    for _ in 0..50_000 {
        upload.send_data("x".into(), false).unwrap();
    }
    proxy.metric_becomes("whygate_hyper_rejected_total{reason=\"flood\"}", 1).await;
}

#[tokio::test]
async fn the_rest_of_a_body_behind_a_whole_answer_keeps_its_place() {
    let mut endpoint = Endpoint::start(1).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect(&proxy).await;
    let _early = answered_early(&mut endpoint, &mut client).await;
    // The endpoint counts it as a stream still, and allows no other on its connection.
    let (next, _) = client.ask(false).await;
    endpoint.next().await.end();
    assert_eq!(head(next).await.status(), StatusCode::OK);
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn the_rest_of_a_body_behind_a_whole_answer_has_its_time() {
    let mut endpoint = Endpoint::start(1).await;
    let mut plan = endpoint.plan();
    plan.limits.body_rate_grace = SOON;
    let proxy = plan.start();
    let mut client = Client::connect(&proxy).await;
    let (mut body, _upload) = answered_early(&mut endpoint, &mut client).await;
    is_reset(&mut body).await;
}

#[tokio::test]
async fn where_an_endpoint_allows_few_streams_others_get_connections_of_their_own() {
    let mut endpoint = Endpoint::start(2).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect(&proxy).await;
    let mut open = Vec::new();
    for _ in 0..7 {
        let (answer, _) = client.ask(false).await;
        let mut asked = endpoint.next().await;
        open.push((asked.begin(), head(answer).await));
    }
    assert_eq!(endpoint.connections(), 4);
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_stream_gets_no_connection_for_each() {
    let mut endpoint = Endpoint::start(100).await;
    let proxy = endpoint.plan().start();
    let mut client = Client::connect(&proxy).await;
    for _ in 0..20 {
        let (answer, _) = client.ask(false).await;
        for _ in 0..2 {
            endpoint.next().await.answer.send_reset(Reason::REFUSED_STREAM);
        }
        assert_eq!(head(answer).await.status(), StatusCode::BAD_GATEWAY);
    }
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn a_refused_websocket_is_no_200_whatever_it_says_it_is() {
    let proxy = Plan::new(&[]).start();
    let mut client = Client::connect(&proxy).await;
    let (probe, _) = client.ask(false).await;
    drop(head(probe).await);
    let mut ready = timeout(HANGS, client.requests.clone().ready()).await.unwrap().unwrap();
    let request =
        Request::connect("http://office.test/").header("content-type", "application/grpc");
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, _tunnel) = ready.send_request(request, false).unwrap();
    assert_eq!(head(answer).await.status(), StatusCode::FORBIDDEN);
}
