//! Two replicas of a release: both enforce, one writes, and nothing hangs on which of them it is.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::cluster::{condition, policy_path};
use e2e::{Cluster, Shop, Whygate, eventually};
use serde_json::Value;
use tokio::time::Instant;

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        both_enforce_and_a_killed_leader_is_replaced_within_20_seconds,
        a_second_release_of_the_same_class_is_told_of,
    ],
);

const LONG: Duration = Duration::from_mins(1);

/// A leader's Lease lasts 12 s, and a round 4 s.
const SUCCESSION: Duration = Duration::from_secs(20);

const OFFICE: u8 = 3;
const MOVED: u8 = 4;
const STRANGER: u8 = 99;

async fn both_enforce_and_a_killed_leader_is_replaced_within_20_seconds() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "replicas", 90).await?;
    cluster.server.apply(&(shop.ingress(Some("office")) + &shop.office("web", OFFICE)))?;
    let kubeconfig = cluster.account("replicas")?;
    let start = async |name: &str| {
        let flags = ["--infrastructure-cidrs=none", "--lease-namespace=whygate", "--replica", name];
        Whygate::run(&kubeconfig, &flags).await
    };
    let mut first = start("first").await?;
    first.line(LONG, "Leadership changed").await?;
    let second = start("second").await?;
    cluster.programmed(shop.namespace, "office").await?;

    // Each tells its own refusals; the counts of both stand side by side.
    for replica in [&first, &second] {
        shop.until(replica, OFFICE, "/", (200, "")).await?;
        shop.until(replica, STRANGER, "/", (403, "AddressNotAllowed")).await?;
    }
    eventually(LONG, "both replicas tell of their refusal", async || {
        let events = ["get", "events", "-n", shop.namespace, "-o"];
        let hosts = "jsonpath={range .items[?(@.involvedObject.kind=='Ingress')]}{.reason} {.reportingInstance}{\"\\n\"}{end}";
        let told = cluster.server.kubectl(&[&events[..], &[hosts]].concat())?.success()?;
        let refusals = told.lines().filter(|line| line.starts_with("AddressNotAllowed "));
        ensure!(refusals.count() == 2, "{told}");
        Ok(())
    })
    .await?;

    first.kill();
    let killed = Instant::now();
    second.line(LONG, "\"leads\":true").await?;
    let took = killed.elapsed();
    ensure!(took < SUCCESSION, "the second leads only after {took:?}");

    // The replica that is gone counts among the living for a while; then it does not hold back.
    cluster.server.apply(&shop.office("web", MOVED))?;
    shop.until(&second, MOVED, "/", (200, "")).await?;
    let path = policy_path(shop.namespace, "office");
    let programmed = async || {
        let policy = cluster.server.api().await?.get(&path).await?;
        let condition = condition(&policy, "Programmed").context("no such condition")?;
        anyhow::Ok(condition.clone())
    };
    eventually(LONG, "the policy waits for the other replica", async || {
        let told = programmed().await?;
        let message = told.get("message").and_then(Value::as_str);
        ensure!(message == Some("1 of 2 replicas behind"), "{told}");
        Ok(())
    })
    .await?;
    eventually(LONG, "a replica that is gone holds nothing back", async || {
        let told = programmed().await?;
        ensure!(told.get("status").and_then(Value::as_str) == Some("True"), "{told}");
        Ok(())
    })
    .await
}

async fn a_second_release_of_the_same_class_is_told_of() -> anyhow::Result<()> {
    /// Statuses are looked at every 15 s, and two releases have to meet twice.
    const TURNS: Duration = Duration::from_mins(2);

    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "releases", 91).await?;
    cluster.server.apply(&shop.ingress(None))?;
    let kubeconfig = cluster.account("releases")?;
    let first = Whygate::run(&kubeconfig, &["--publish-address=192.0.2.1"]).await?;
    let second = Whygate::run(&kubeconfig, &["--publish-address=192.0.2.2"]).await?;
    for release in [&first, &second] {
        let said = release.line(TURNS, "somebody else writes the status").await?;
        ensure!(said.contains("releases/web") && said.contains("--controller-name"), "{said}");
    }
    Ok(())
}
