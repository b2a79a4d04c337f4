//! What the tests share: the cluster, the program, the credentials.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
pub(crate) use e2e::client::code;
use e2e::client::{empty, request};
use e2e::corpus::Credentials;
use e2e::upstream::Echo;
use e2e::{Answer, Authority, Client, Cluster, Whygate};
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
}

/// A shop of one test, asked through the program that all tests share.
pub(crate) struct Shop {
    pub(crate) world: &'static World,
    shop: e2e::Shop,
}

impl Deref for Shop {
    type Target = e2e::Shop;

    fn deref(&self) -> &e2e::Shop {
        &self.shop
    }
}

impl Shop {
    /// `third` is the third octet of the addresses that belong to this test alone.
    pub(crate) async fn open(namespace: &'static str, third: u8) -> anyhow::Result<Self> {
        let world = world().await?;
        let shop = e2e::Shop::open(&world.cluster.server, namespace, third).await?;
        Ok(Self { world, shop })
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

    /// Waits until a GET from there is answered with this status and code.
    pub(crate) async fn until(
        &self,
        fourth: u8,
        path: &str,
        expected: (u16, &str),
    ) -> anyhow::Result<()> {
        self.shop.until(&self.world.whygate, fourth, path, expected).await.map(drop)
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
