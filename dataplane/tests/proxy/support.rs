//! A proxy on loopback, an upstream that tells what it got, and clients.

use std::{
    collections::HashMap,
    error::Error,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dataplane::{
    Certificates, Dataplane, DenialSample, EndpointTable, Inputs, Limits, Settings, TraceSettings,
};
use decision::{
    check::{
        Check, Demand,
        address::AddressCheck,
        method::MethodCheck,
        subscription::{AcceptedPlan, SubscriptionCheck},
    },
    client::AddressSource,
    disclosure::OnDeny,
    endpoint::EndpointAddress,
    host::HostPattern,
    options::Options,
    policy::{Alternative, Attachment, Enforcement, Policy, Rule},
    protection::{Posture, Protection},
    refs::{FieldRef, Kind, ResourceRef, RouteName, Site},
    route::{Backend, HostRoutes, PathMatch, Route, RoutingTable, ServicePort},
    snapshot::Snapshot,
    transport::Transport,
    uncovered::{OpenBy, Uncovered},
};
use http::Method;
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

/// Nothing on loopback takes this long unless it hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(20);

/// A running proxy with everything that steers it.
pub(crate) struct Proxy {
    pub(crate) dataplane: Dataplane,
    pub(crate) samples: mpsc::Receiver<DenialSample>,
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(crate) endpoints: watch::Sender<Arc<EndpointTable>>,
    pub(crate) certificates: watch::Sender<Arc<Certificates>>,
}

/// What a proxy is started with.
pub(crate) struct Plan {
    pub(crate) limits: Limits,
    pub(crate) source: AddressSource,
    pub(crate) routes: Vec<(&'static str, Posture)>,
    pub(crate) upstreams: Vec<SocketAddr>,
    pub(crate) certificates: Certificates,
    pub(crate) redirect_port: Option<u16>,
    /// Of how many exchanges one is told.
    pub(crate) access_log: Option<NonZeroU32>,
    pub(crate) traces: TraceSettings,
    /// What the routes of some hosts ask for.
    pub(crate) options: HashMap<&'static str, Arc<Options>>,
    /// How the endpoints of all routes are spoken to.
    pub(crate) transport: Transport,
}

impl Plan {
    /// One open route for `shop.test`, and `office.test` that refuses every client of loopback.
    pub(crate) fn new(upstreams: &[SocketAddr]) -> Self {
        Self {
            limits: Limits::default(),
            source: AddressSource::default(),
            routes: vec![
                ("shop.test", Posture::Open(OpenBy::Flag)),
                ("office.test", require("203.0.113.0/24", Enforcement::Enforce)),
                ("trial.test", require("203.0.113.0/24", Enforcement::Shadow)),
            ],
            upstreams: upstreams.to_vec(),
            certificates: Certificates::default(),
            redirect_port: None,
            access_log: None,
            traces: TraceSettings::default(),
            options: HashMap::new(),
            transport: Transport::default(),
        }
    }

    /// The same with `shop.test` asking for something.
    pub(crate) fn with(mut self, options: Options) -> Self {
        self.options.insert("shop.test", options.into());
        self
    }

    pub(crate) fn start(self) -> Proxy {
        let wishes = (&self.options, &self.transport);
        let snapshot = snapshot_with(1, at_service(self.routes), wishes);
        let (snapshot, snapshots) = watch::channel(Arc::new(snapshot));
        let table = EndpointTable(HashMap::from([(service(), endpoints(self.upstreams))]));
        let (endpoints, tables) = watch::channel(Arc::new(table));
        let (certificates, keys) = watch::channel(Arc::new(self.certificates));
        let inputs = Inputs { snapshot: snapshots, endpoints: tables, certificates: keys };
        let (sender, samples) = mpsc::channel(1_000);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings {
            http: vec![loopback],
            https: vec![loopback],
            threads: NonZeroUsize::new(2).unwrap(),
            address_source: self.source,
            limits: self.limits,
            replica: 1,
            access_log: self.access_log,
            traces: self.traces,
            redirect_port: self.redirect_port,
        };
        let dataplane = Dataplane::start(settings, inputs, sender).unwrap();
        Proxy { dataplane, samples, snapshot, endpoints, certificates }
    }
}

impl Proxy {
    pub(crate) fn http(&self) -> SocketAddr {
        self.dataplane.addresses().http[0]
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.dataplane.addresses().https[0]
    }

    /// Sends bytes on a new connection and reads until it is closed.
    pub(crate) async fn raw(&self, request: &str) -> String {
        raw(self.http(), request).await
    }

    /// A request of two lines and the headers given, answered and closed.
    pub(crate) async fn get(&self, host: &str, path: &str, headers: &str) -> String {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    /// The value of a metric without labels, or with the labels spelled out in `name`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        self.dataplane.metrics().encode(&mut text);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until a metric has grown to a value.
    pub(crate) async fn metric_becomes_at_least(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name) < value {
                tokio::task::yield_now().await;
            }
        };
        let ended = timeout(HANGS, reached).await;
        assert!(ended.is_ok(), "{name} is {}, below {value}", self.metric(name));
    }

    /// Waits until a metric has a value.
    pub(crate) async fn metric_becomes(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name) != value {
                tokio::task::yield_now().await;
            }
        };
        let ended = timeout(HANGS, reached).await;
        assert!(ended.is_ok(), "{name} is {}, not {value}", self.metric(name));
    }
}

pub(crate) async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end, too.
    let _ = timeout(HANGS, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads until `end` has arrived.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(end) {
        let mut bytes = [0; 4096];
        let read = timeout(HANGS, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {answer}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Endpoints as slices name them.
pub(crate) fn endpoints(addresses: impl IntoIterator<Item = SocketAddr>) -> Arc<[EndpointAddress]> {
    addresses.into_iter().map(EndpointAddress::of_slice).collect()
}

pub(crate) fn service() -> ServicePort {
    ServicePort { service: ResourceRef::new(Kind::Service, "shop", "web"), port: 80 }
}

pub(crate) fn snapshot(generation: u64, routes: Vec<(&'static str, Posture)>) -> Snapshot {
    snapshot_of(generation, at_service(routes))
}

type Routes = Vec<(&'static str, Posture, ServicePort)>;

fn at_service(routes: Vec<(&'static str, Posture)>) -> Routes {
    routes.into_iter().map(|(host, posture)| (host, posture, service())).collect()
}

/// Routes, each with its own posture and backend.
pub(crate) fn snapshot_of(generation: u64, routes: Routes) -> Snapshot {
    snapshot_with(generation, routes, (&HashMap::new(), &Transport::default()))
}

fn snapshot_with(
    generation: u64,
    routes: Routes,
    (options, transport): (&HashMap<&'static str, Arc<Options>>, &Transport),
) -> Snapshot {
    let hosts = routes.into_iter().enumerate().map(|(number, (host, posture, service))| {
        let ingress = ResourceRef::new(Kind::Ingress, "shop", "web");
        let field = FieldRef::new(ingress, format!("spec.rules[{number}].http.paths[0]"));
        let name =
            Arc::new(RouteName { field: field.clone(), host: host.into(), path: "/".into() });
        let backend = Arc::new(match host {
            "missing.test" => Backend::Missing {
                field: field.clone(),
                problem: "none".into(),
                remedy: "Name one.".into(),
            },
            _ => Backend::Service(service, transport.clone()),
        });
        let redirect_to_https = host == "secure.test";
        let options = options.get(host).cloned();
        let route =
            Route { name, posture, backend, redirect_to_https, is_challenge: false, options };
        HostRoutes {
            host: HostPattern::parse(host).unwrap(),
            owner: "shop".into(),
            paths: vec![(PathMatch::Prefix, "/".into(), Arc::new(route))],
        }
    });
    let routes = RoutingTable::new(hosts.collect(), None);
    Snapshot { generation, routes, ..Snapshot::default() }
}

/// A policy that asks for a client of one network.
pub(crate) fn require(network: &str, enforcement: Enforcement) -> Posture {
    let networks = [network.parse().unwrap()].into_iter().collect();
    demand(Demand::Address(AddressCheck { networks, infrastructure: false }), enforcement)
}

/// A policy that asks for one method.
pub(crate) fn require_method(method: Method) -> Posture {
    demand(Demand::Method(MethodCheck { methods: [method].into() }), Enforcement::Enforce)
}

/// A policy that asks for an API key, which nobody has.
pub(crate) fn require_key() -> Posture {
    let plan = ResourceRef::new(Kind::AccessPlan, "shop", "gold");
    let plans = Box::new([AcceptedPlan { plan, lack: None }]);
    demand(Demand::Subscription(SubscriptionCheck { plans }), Enforcement::Enforce)
}

/// A policy with one rule of one check.
pub(crate) fn demand(demand: Demand, enforcement: Enforcement) -> Posture {
    let resource = ResourceRef::new(Kind::AccessPolicy, "shop", "office");
    let site = |field: &str| {
        let (policy, rule) = (resource.clone(), "office".into());
        Arc::new(Site { policy, rule, field: field.into() })
    };
    let check = Check { site: site("spec.require[0].check"), demand };
    let alternative = Alternative::new(site("spec.require[0]"), vec![check]);
    let rule = Rule {
        name: "office".into(),
        enforcement,
        alternatives: Box::new([alternative]),
        hint: None,
    };
    let policy = Arc::new(Policy {
        resource,
        deny: Box::default(),
        require: Box::new([rule]),
        on_deny: OnDeny::default(),
    });
    let attachment = Attachment { narrowings: Box::default(), policy: Ok(policy) };
    let uncovered = Uncovered::Open(OpenBy::Flag);
    Posture::Enforce(Protection::new(vec![attachment], Vec::new(), uncovered).into())
}

/// An upstream that answers with what it got, or as its path says.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _task: tokio::task::JoinSet<()>,
}

impl Upstream {
    /// Reads a request, then answers with `answer(request)` on the same connection, again and
    /// again, until the answer is empty or says `connection: close`.
    pub(crate) async fn start(
        answer: impl Fn(&str) -> String + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut task = tokio::task::JoinSet::new();
        let counts = (Arc::clone(&requests), Arc::clone(&connections));
        task.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counts.1.fetch_add(1, Ordering::SeqCst);
                open.spawn(converse(stream, Arc::clone(&counts.0), answer.clone()));
            }
        });
        Self { address, requests, connections, _task: task }
    }

    /// One that answers every request with its text.
    pub(crate) async fn echo() -> Self {
        Self::start(|request| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{request}", request.len())
        })
        .await
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst) as u64
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst) as u64
    }
}

async fn converse(
    mut stream: TcpStream,
    requests: Arc<AtomicUsize>,
    answer: impl Fn(&str) -> String,
) {
    while let Some(request) = read_request(&mut stream).await {
        requests.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&request);
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if answer.is_empty() || answer.contains("connection: close") {
            return;
        }
    }
}

/// A request's head and, decoded, its body.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        text.push(char::from(stream.read_u8().await.ok()?));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        text.push_str(std::str::from_utf8(&body).unwrap());
    } else if text.contains("transfer-encoding: chunked") {
        while !text.ends_with("\r\n0\r\n\r\n") {
            text.push(char::from(stream.read_u8().await.ok()?));
        }
    }
    Some(text)
}

/// A client of HTTP/2, and the task of its connection.
pub(crate) async fn http2_client<B>(proxy: &Proxy) -> (http2::SendRequest<B>, JoinSet<()>)
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(proxy.http()).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    (sender, tasks)
}
