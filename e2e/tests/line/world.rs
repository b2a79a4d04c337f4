//! What the tests share: the cluster, the program, the credentials.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::client::{empty, request};
use e2e::corpus::Credentials;
use e2e::manifests::{self, Ingress, backend};
use e2e::upstream::Echo;
use e2e::{Answer, Authority, Client, Cluster, Upstream, Whygate, address, eventually};
use http::Method;
use tokio::sync::{OnceCell, RwLock};

/// Longest time until something asynchronous has happened.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// What `--publish-address` says.
pub(crate) const PUBLISHED: &str = "203.0.113.80";

static WORLD: OnceCell<World> = OnceCell::const_new();

/// Held for reading by tests that change manifests, for writing by one that needs silence.
pub(crate) static SILENCE: RwLock<()> = RwLock::const_new(());

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) whygate: Whygate,
    pub(crate) authority: Authority,
    credentials: Mutex<Credentials>,
}

pub(crate) async fn world() -> anyhow::Result<&'static World> {
    WORLD.get_or_try_init(World::start).await
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let kubeconfig = cluster.account("line")?;
        let flags = [
            // The peers are real clients here.
            "--infrastructure-cidrs=none",
            "--publish-address",
            PUBLISHED,
            "--denial-window-seconds=1",
            // Tests that run side by side must not wait for each other's Events.
            "--event-writes-per-minute=1200",
        ];
        let whygate = Whygate::run(&kubeconfig, &flags).await?;
        Ok(Self {
            cluster,
            whygate,
            authority: Authority::new("line")?,
            credentials: Mutex::new(Credentials::new()?),
        })
    }

    /// Applies manifests with the credentials filled in.
    pub(crate) fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        let manifests = self.credentials().fill(manifests)?;
        self.cluster.server.apply(&manifests)
    }

    /// Keys, tokens and API keys of this run.
    pub(crate) fn credentials(&self) -> MutexGuard<'_, Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What kubectl prints.
    pub(crate) fn kubectl(&self, command: &str) -> anyhow::Result<String> {
        self.cluster.server.kubectl(&command.split(' ').collect::<Vec<_>>())?.success()
    }

    /// A client over plain HTTP.
    pub(crate) fn client(&self, from: impl Into<IpAddr>) -> anyhow::Result<Client> {
        Ok(Client::new(self.whygate.http()?).from(from))
    }

    /// A value of the program's metrics.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let answer = Client::new(self.whygate.admin()?).get("127.0.0.1", "/metrics").await?;
        let text = answer.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}:\n{text}"))?.parse()?)
    }
}

/// One namespace with a Service `api` and an upstream of the same name.
pub(crate) struct Shop {
    pub(crate) world: &'static World,
    pub(crate) namespace: &'static str,
    pub(crate) host: String,
    pub(crate) upstream: Upstream,
    third: u8,
}

impl Shop {
    /// `third` is the third octet of the addresses that belong to this test alone.
    pub(crate) async fn open(namespace: &'static str, third: u8) -> anyhow::Result<Self> {
        let world = world().await?;
        let upstream = Upstream::start((address(third, 1), 0).into(), "api").await?;
        let host = format!("{namespace}.test");
        let manifests =
            manifests::namespace(namespace) + &backend(namespace, "api", upstream.address());
        world.apply(&manifests)?;
        Ok(Self { world, namespace, host, upstream, third })
    }

    /// An address of this test alone.
    pub(crate) fn address(&self, fourth: u8) -> IpAddr {
        address(self.third, fourth).into()
    }

    /// An Ingress `web` for the shop's host that leads to its Service.
    pub(crate) fn ingress(&self, requires: Option<&str>) -> String {
        let (namespace, host) = (self.namespace, self.host.as_str());
        let paths = [("/", "api")];
        Ingress { namespace, name: "web", host, paths: &paths, requires, tls: None }.manifest()
    }

    /// A policy on `web`.
    pub(crate) fn policy(&self, name: &str, paths: &[&str], rules: &str) -> String {
        manifests::policy(self.namespace, name, "web", paths, rules)
    }

    /// A GET from an address of this test over a connection of its own.
    pub(crate) async fn get(&self, fourth: u8, path: &str) -> anyhow::Result<Answer> {
        self.world.client(self.address(fourth))?.get(&self.host, path).await
    }

    /// The same with a header.
    pub(crate) async fn get_with(
        &self,
        fourth: u8,
        path: &str,
        (name, value): (&str, &str),
    ) -> anyhow::Result<Answer> {
        let request = request(Method::GET, &self.host, path).header(name, value);
        self.world.client(self.address(fourth))?.send(request.body(empty())?).await
    }

    /// Waits until a GET from there is answered with this status.
    pub(crate) async fn until(&self, fourth: u8, path: &str, status: u16) -> anyhow::Result<()> {
        let sentence = format!("{} answers {path} with {status}", self.host);
        eventually(LONG, &sentence, async || {
            let answer = self.get(fourth, path).await?;
            ensure!(answer.status == status, "{} {}", answer.status, answer.text());
            Ok(())
        })
        .await
    }

    /// Waits until the newest generation of a policy is enforced.
    pub(crate) async fn programmed(&self, policy: &str) -> anyhow::Result<serde_json::Value> {
        self.world.cluster.programmed(self.namespace, policy).await
    }
}

/// The name of the upstream that answered.
pub(crate) fn upstream_of(answer: &Answer) -> anyhow::Result<String> {
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    Ok(answer.json::<Echo>()?.upstream)
}

/// The code of a refusal.
pub(crate) fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.header("whygate-denial-code"))
}
