//! The API server goes away for a while: traffic and enforcement go on, and afterwards everything
//! goes on as if nothing had been, without a restart.
//!
//! It is away for 20 s. `WHYGATE_OUTAGE_SECONDS=120` makes it longer.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::cluster::policy_path;
use e2e::{Client, Cluster, FaultProxy, Shop, Whygate, eventually, say};
use serde_json::json;
use tokio::time::{Instant, sleep};

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        a_stopped_api_server_stops_neither_traffic_nor_enforcement,
        a_frozen_api_server_stops_neither_traffic_nor_enforcement,
        a_quiet_watch_stays_young_and_one_that_carries_nothing_ages,
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

/// The API server ends watches after a minute, and ours say that they live when it does.
const WATCH: Duration = Duration::from_mins(1);

async fn a_quiet_watch_stays_young_and_one_that_carries_nothing_ages() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let mut proxy = FaultProxy::start("127.0.0.1:0".parse()?, cluster.server.address())?;
    let quiet = Whygate::run(&cluster.account("quiet")?, &[]).await?;
    let kubeconfig = cluster.account_without("cut-off", None, proxy.address())?;
    let cut_off = Whygate::run(&kubeconfig, &[]).await?;
    proxy.black_hole().await?;

    let begun = Instant::now();
    let mut oldest = 0.0_f64;
    while begun.elapsed() < WATCH + Duration::from_secs(8) {
        for (kind, age) in ages(&quiet).await? {
            oldest = oldest.max(age);
            ensure!(age < WATCH.as_secs_f64() + 5.0, "{kind} was not heard of for {age} s");
        }
        sleep(Duration::from_millis(500)).await;
    }
    let found = ages(&cut_off).await?;
    let kinds: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "AccessPlan",
            "AccessPolicy",
            "AccessSubscription",
            "EndpointSlice",
            "Ingress",
            "IngressClass",
            "Namespace",
            "Secret",
            "Service",
        ]
    );
    for (kind, age) in found {
        ensure!(age > WATCH.as_secs_f64() + 5.0, "{kind} was heard of {age} s ago, by nobody");
    }
    proxy.pass().await?;
    eventually(RECOVERY, "every kind is heard of again", async || {
        let old: Vec<_> =
            ages(&cut_off).await?.into_iter().filter(|(_, age)| *age > 30.0).collect();
        ensure!(old.is_empty(), "{old:?}");
        Ok(())
    })
    .await?;
    say(&format!("a quiet watch was at most {oldest:.1} s old"));
    Ok(())
}

/// How long each kind was not heard of, in seconds.
async fn ages(whygate: &Whygate) -> anyhow::Result<BTreeMap<String, f64>> {
    let answer = Client::new(whygate.admin()?).get("127.0.0.1", "/metrics").await?;
    let text = answer.text();
    let age = |line: &str| -> Option<(String, f64)> {
        let (kind, age) =
            line.strip_prefix("whygate_watch_age_seconds{kind=\"")?.split_once("\"} ")?;
        Some((kind.to_owned(), age.parse().ok()?))
    };
    Ok(text.lines().filter_map(age).collect())
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
