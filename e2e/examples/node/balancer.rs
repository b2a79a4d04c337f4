//! A balancer as clouds have them: it sends straight to pods, learns late that one has ended, and
//! knows nothing of HTTP.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use e2e::{
    Certificate, Client,
    client::{empty, request},
};
use http::Method;
use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::release::Release;

/// How long it goes on sending to a pod that is not ready any more.
const LATE: Duration = Duration::from_secs(15);

/// How often it asks which pods are ready.
const LOOK: Duration = Duration::from_millis(200);

/// Where the API server listens.
const API_SERVER: &str = "198.18.1.2:6443";

/// Pods, and until when each gets connections; `None` while it is ready.
type Targets = BTreeMap<Ipv4Addr, Option<Instant>>;

/// A running balancer; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Where it takes plain connections.
    pub(crate) http: SocketAddr,
    /// Where it takes TLS, which it passes on as it is.
    pub(crate) https: SocketAddr,
    targets: Arc<Mutex<Targets>>,
    _tasks: JoinSet<()>,
}

impl Balancer {
    /// Starts one for the pods of a release; `folder` is the cluster's.
    pub(crate) async fn start(folder: &Path, release: Release) -> anyhow::Result<Self> {
        let targets: Arc<Mutex<Targets>> = Arc::default();
        let mut tasks = JoinSet::new();
        let client = administrator(folder)?;
        let first = ready(&client, release).await?;
        update(&mut targets.lock().unwrap_or_else(PoisonError::into_inner), &first);
        let known = Arc::clone(&targets);
        tasks.spawn(async move {
            loop {
                sleep(LOOK).await;
                // What cannot be asked now is asked again.
                if let Ok(ready) = ready(&client, release).await {
                    update(&mut known.lock().unwrap_or_else(PoisonError::into_inner), &ready);
                }
            }
        });
        let http = listen(&mut tasks, &targets, 8080).await?;
        let https = listen(&mut tasks, &targets, 8443).await?;
        Ok(Self { http, https, targets, _tasks: tasks })
    }

    /// How many pods get connections now.
    pub(crate) fn targets(&self) -> usize {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn administrator(folder: &Path) -> anyhow::Result<Client> {
    let read = |name: &str| {
        let path = folder.join("tls").join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity = Certificate { certificate: read("admin.crt")?, key: read("admin.key")? };
    Ok(Client::new(API_SERVER.parse()?)
        .trusting_pem(read("ca.crt")?.as_bytes())?
        .identified_by(identity))
}

/// The addresses of the pods that are ready.
async fn ready(client: &Client, Release(name): Release) -> anyhow::Result<Vec<Ipv4Addr>> {
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices?labelSelector=kubernetes.io/service-name%3D{name}"
    );
    let answer = client.send(request(Method::GET, "198.18.1.2", &path).body(empty())?).await?;
    ensure!(answer.status == 200, "{}", answer.text());
    let list: Value = answer.json()?;
    let items = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let endpoints = items(&list, "items").into_iter().flat_map(|slice| items(&slice, "endpoints"));
    let ready = endpoints.filter(|endpoint| {
        endpoint.pointer("/conditions/ready").and_then(Value::as_bool) == Some(true)
    });
    ready
        .flat_map(|endpoint| items(&endpoint, "addresses"))
        .map(|it| it.as_str().unwrap_or_default().parse().context("an endpoint has no address"))
        .collect()
}

fn update(targets: &mut Targets, ready: &[Ipv4Addr]) {
    let now = Instant::now();
    for (address, until) in targets.iter_mut() {
        if !ready.contains(address) {
            until.get_or_insert(now + LATE);
        }
    }
    targets.extend(ready.iter().map(|address| (*address, None)));
    targets.retain(|_, until| until.is_none_or(|until| now < until));
}

async fn listen(
    tasks: &mut JoinSet<()>,
    targets: &Arc<Mutex<Targets>>,
    port: u16,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (targets, turn) = (Arc::clone(targets), AtomicUsize::new(0));
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let target = {
                let targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
                targets.keys().nth(turn.checked_rem(targets.len()).unwrap_or_default()).copied()
            };
            let Some(target) = target else { continue };
            connections.spawn(async move {
                // A pod that refuses is a connection that ends: the client counts it as lost.
                if let Ok(mut pod) = TcpStream::connect((target, port)).await {
                    let _ = client.set_nodelay(true).and(pod.set_nodelay(true));
                    let _ = copy_bidirectional(&mut client, &mut pod).await;
                }
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(address)
}
