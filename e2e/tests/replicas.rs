//! Two replicas of a release: both enforce, one writes, and nothing hangs on which of them it is.

use std::path::Path;
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
        what_all_replicas_refused_stands_in_the_status_and_outlives_them,
    ],
);

const LONG: Duration = Duration::from_mins(1);

/// A leader's Lease lasts 12 s, and a round 4 s.
const SUCCESSION: Duration = Duration::from_secs(20);

const OFFICE: u8 = 3;
const MOVED: u8 = 4;
const STRANGER: u8 = 99;

/// A replica tells of its refusals within 35 s, and within 30 s more all of them are summed.
const SUMMED: Duration = Duration::from_mins(3);

async fn start(kubeconfig: &Path, name: &str) -> anyhow::Result<Whygate> {
    let flags = ["--infrastructure-cidrs=none", "--lease-namespace=whygate", "--replica", name];
    Whygate::run(kubeconfig, &flags).await
}

async fn both_enforce_and_a_killed_leader_is_replaced_within_20_seconds() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "replicas", 90).await?;
    cluster.server.apply(&(shop.ingress(Some("office")) + &shop.office("web", OFFICE)))?;
    let kubeconfig = cluster.account("replicas")?;
    let mut first = start(&kubeconfig, "first").await?;
    first.line(LONG, "Leadership changed").await?;
    let second = start(&kubeconfig, "second").await?;
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

async fn what_all_replicas_refused_stands_in_the_status_and_outlives_them() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "counted", 91).await?;
    cluster.server.apply(&(shop.ingress(Some("office")) + &shop.office("web", OFFICE)))?;
    let kubeconfig = cluster.account("counted")?;
    let mut first = start(&kubeconfig, "first").await?;
    first.line(LONG, "Leadership changed").await?;
    let mut second = start(&kubeconfig, "second").await?;
    cluster.programmed(shop.namespace, "office").await?;

    refuse(&shop, &first, 2).await?;
    refuse(&shop, &second, 3).await?;
    counted(&cluster, &shop, 5).await?;
    let policy = cluster.server.api().await?.get(&policy_path(shop.namespace, "office")).await?;
    let top = policy.pointer("/status/denials/top/0").context("nothing is named")?;
    let name = |field: &str| top.get(field).and_then(Value::as_str);
    ensure!((name("rule"), name("reason")) == (Some("office"), Some("AddressNotAllowed")), "{top}");
    ensure!(top.get("count") == Some(&5.into()) && name("lastDecision").is_some(), "{top}");

    // What a replica has told is counted on when it is gone, whatever stands beside it.
    garble(&cluster)?;
    first.kill();
    second.line(LONG, "\"leads\":true").await?;
    refuse(&shop, &second, 1).await?;
    counted(&cluster, &shop, 6).await?;
    second.line(LONG, "is left out of the sums").await?;

    // Whoever is asked to end tells a last time, and whoever comes back goes on where it was killed.
    refuse(&shop, &second, 1).await?;
    second.sigint()?;
    second.wait(LONG).await?;
    let _first = start(&kubeconfig, "first").await?;
    counted(&cluster, &shop, 7).await?;

    // Another policy of the same name has refused nothing.
    let delete = ["delete", "accesspolicy", "office", "-n", shop.namespace];
    cluster.server.kubectl(&delete)?.success()?;
    cluster.server.apply(&shop.office("web", OFFICE))?;
    cluster.programmed(shop.namespace, "office").await?;
    eventually(SUMMED, "the new policy begins with 0", async || {
        let told = columns(&cluster, &shop)?;
        ensure!(told.contains(" Accepted 0 "), "{told}");
        Ok(())
    })
    .await
}

/// Lets a replica refuse so many requests.
async fn refuse(shop: &Shop, replica: &Whygate, times: usize) -> anyhow::Result<()> {
    let client = shop.client(replica, STRANGER)?;
    for _ in 0..times {
        let answer = client.get(&shop.host, "/").await?;
        ensure!(answer.status == 403, "{} {}", answer.status, answer.text());
    }
    Ok(())
}

/// Waits until the policy shows so many refusals; it never shows fewer than it has shown.
async fn counted(cluster: &Cluster, shop: &Shop, sum: u64) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    let path = policy_path(shop.namespace, "office");
    eventually(SUMMED, &format!("{sum} refusals are counted"), async || {
        let policy = cluster.server.api().await?.get(&path).await?;
        shown.extend(policy.pointer("/status/denials/lastHour").and_then(Value::as_u64));
        let told = columns(cluster, shop)?;
        ensure!(told.contains("REASON DENIED-1H LAST-REASON AGE "), "{told}");
        ensure!(told.contains(&format!(" Accepted {sum} AddressNotAllowed ")), "{told}");
        Ok(())
    })
    .await?;
    ensure!(shown.is_sorted(), "a sum went back: {shown:?}");
    Ok(())
}

/// What `kubectl get` shows of the policy, with single spaces.
fn columns(cluster: &Cluster, shop: &Shop) -> anyhow::Result<String> {
    let get = ["get", "accesspolicy", "office", "-n", shop.namespace];
    let told = cluster.server.kubectl(&get)?.success()?;
    Ok(told.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Puts something else beside the Leases with what the replicas have counted.
fn garble(cluster: &Cluster) -> anyhow::Result<()> {
    let label = "whygate.dev/denials-of";
    let path = "jsonpath={.items[0].metadata.labels.whygate\\.dev/denials-of}";
    let get = ["get", "leases", "-n", "whygate", "-l", label, "-o", path];
    let release = cluster.server.kubectl(&get)?.success()?;
    cluster.server.apply(&format!(
        "
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: garbled
  namespace: whygate
  labels: {{ {label}: \"{}\" }}
  annotations: {{ whygate.dev/denials: '{{\"policies\": 7' }}
",
        release.trim()
    ))?;
    Ok(())
}
