//! The API server goes away for a while: traffic and enforcement go on, and afterwards everything
//! goes on as if nothing had been, without a restart.
//!
//! It is away for 20 s. `WHYGATE_OUTAGE_SECONDS=120` makes it longer.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::cluster::policy_path;
use e2e::{Cluster, Shop, Whygate, eventually, say};
use serde_json::json;
use tokio::time::{Instant, sleep};

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        a_stopped_api_server_stops_neither_traffic_nor_enforcement,
        a_frozen_api_server_stops_neither_traffic_nor_enforcement,
    ],
);

/// Longest time until a watch has noticed that the API server is back and an Event is written.
const RECOVERY: Duration = Duration::from_mins(1);

async fn a_stopped_api_server_stops_neither_traffic_nor_enforcement() -> anyhow::Result<()> {
    let mut outage = Outage::prepare(40).await?;
    outage.cluster.server.stop();
    outage.endure().await?;
    outage.cluster.server.start_again().await?;
    outage.recover("stopped").await
}

async fn a_frozen_api_server_stops_neither_traffic_nor_enforcement() -> anyhow::Result<()> {
    let mut outage = Outage::prepare(41).await?;
    outage.cluster.server.freeze()?;
    outage.endure().await?;
    outage.cluster.server.thaw()?;
    outage.recover("frozen").await
}

struct Outage {
    whygate: Whygate,
    cluster: Cluster,
    shop: Shop,
    refusals: u64,
    admissions: u64,
}

impl Outage {
    /// A cluster with one route and its policy, which both have been seen at work.
    async fn prepare(third: u8) -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let shop = Shop::open(&cluster.server, "outage", third).await?;
        cluster.server.apply(&(shop.ingress(Some("office")) + &shop.office("web", 3)))?;
        let kubeconfig = cluster.account("outage")?;
        let flags = ["--infrastructure-cidrs=none", "--denial-window-seconds=1"];
        let whygate = Whygate::run(&kubeconfig, &flags).await?;
        let mut this = Self { whygate, cluster, shop, refusals: 0, admissions: 0 };
        this.cluster.programmed(this.shop.namespace, "office").await?;
        this.judge(3, 99).await?;
        this.events_are_exact().await?;
        Ok(this)
    }

    /// One request that must pass and one that must not.
    async fn judge(&mut self, admitted: u8, refused: u8) -> anyhow::Result<()> {
        let shop = &self.shop;
        let get = async |fourth: u8| shop.client(&self.whygate, fourth)?.get(&shop.host, "/").await;
        let answer = get(admitted).await?;
        ensure!(answer.status == 200, "refused: {} {}", answer.status, answer.text());
        let answer = get(refused).await?;
        ensure!(answer.status == 403, "not refused: {} {}", answer.status, answer.text());
        self.admissions += 1;
        self.refusals += 1;
        ensure!(self.shop.upstream.requests() == self.admissions, "a refused request got through");
        Ok(())
    }

    /// Requests for as long as the outage lasts.
    async fn endure(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < length()? {
            self.judge(3, 99).await?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What was refused meanwhile is told, a change is enforced, and what is refused then is told.
    async fn recover(&mut self, how: &str) -> anyhow::Result<()> {
        let back = Instant::now();
        self.judge(3, 99).await?;
        self.events_are_exact().await?;
        let told = back.elapsed();
        // A rule of another name makes another Event, which is written at once: the old one's
        // updates have grown apart by now.
        let cidr = format!("{}/32", self.shop.address(4));
        let change =
            json!({ "spec": { "require": [{ "name": "moved", "ip": { "cidrs": [cidr] } }] } });
        let (namespace, changed) = (self.shop.namespace, Instant::now());
        self.cluster.server.api().await?.patch(&policy_path(namespace, "office"), &change).await?;
        self.cluster.programmed(namespace, "office").await?;
        let programmed = changed.elapsed();
        for _ in 0..20 {
            self.judge(4, 3).await?;
        }
        self.events_are_exact().await?;
        say(&format!(
            "{how} for {:?}: {} refusals and {} admissions judged rightly; Events exact {told:?} \
             after its return, a change programmed {programmed:?} after its writing",
            length()?,
            self.refusals,
            self.admissions,
        ));
        Ok(())
    }

    /// The Events on both objects count what was refused, no more and no less.
    async fn events_are_exact(&self) -> anyhow::Result<()> {
        eventually(RECOVERY, "the Events count every refusal", async || {
            let mut api = self.cluster.server.api().await?;
            for kind in ["Ingress", "AccessPolicy"] {
                let events = api.events(self.shop.namespace, kind).await?;
                let sum: u64 = events.iter().map(|event| event.count).sum();
                ensure!(
                    sum == self.refusals,
                    "{sum} of {} on the {kind}: {events:?}",
                    self.refusals
                );
            }
            Ok(())
        })
        .await
    }
}

/// How long the API server is away.
fn length() -> anyhow::Result<Duration> {
    const VARIABLE: &str = "WHYGATE_OUTAGE_SECONDS";

    let seconds = env::var(VARIABLE).unwrap_or_else(|_| "20".into());
    let seconds = seconds.parse().with_context(|| format!("{VARIABLE} is no number: {seconds}"))?;
    Ok(Duration::from_secs(seconds))
}
