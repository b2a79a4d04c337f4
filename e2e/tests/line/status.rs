//! What a user reads with `kubectl get`: conditions, columns, the published address.

use anyhow::{Context as _, ensure};
use e2e::cluster::condition;
use e2e::eventually;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::world::{LONG, PUBLISHED, SILENCE, Shop, code, world};

const OPEN: &str = "  require: [{ name: office, ip: { cidrs: [198.18.0.0/15] } }]";

const SUBSCRIPTIONS: &str = "
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPlan
metadata: { name: gold, namespace: columns }
spec: { displayName: Gold, approval: Automatic }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: mobile, namespace: columns }
spec:
  planRef: { namespace: columns, name: gold }
  credentials: [{ apiKey: { id: '${id:active}', sha256: '${sha256:active}' } }]
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: paused, namespace: columns }
spec:
  planRef: { namespace: columns, name: gold }
  credentials: [{ apiKey: { id: '${id:paused}', sha256: '${sha256:paused}' } }]
  suspend: true
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: old, namespace: columns }
spec:
  planRef: { namespace: columns, name: gold }
  credentials: [{ apiKey: { id: '${id:old}', sha256: '${sha256:old}' } }]
  expiresAt: '2020-01-01T00:00:00Z'
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: nowhere, namespace: columns }
spec:
  planRef: { namespace: columns, name: bronze }
  credentials: [{ apiKey: { id: '${id:nowhere}', sha256: '${sha256:nowhere}' } }]
";

pub(crate) async fn columns_tell_what_became_of_policies_plans_and_subscriptions()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("columns", 12).await?;
    let elsewhere = e2e::manifests::policy(shop.namespace, "elsewhere", "nobody", &[], OPEN);
    let shadow = format!("  enforcement: Shadow\n{OPEN}");
    let manifests = [
        shop.ingress(None),
        shop.policy("office", &[], OPEN),
        shop.policy("trial", &[], &shadow),
        elsewhere,
        SUBSCRIPTIONS.into(),
    ];
    shop.world.apply(&manifests.concat())?;

    let policies: [(&str, &[&str]); 3] = [
        ("office", &["Enforce", "1", "True", "True", "Accepted"]),
        ("trial", &["Shadow", "1", "True", "True", "Accepted"]),
        ("elsewhere", &["Enforce", "0", "False", "TargetNotFound"]),
    ];
    rows(&shop, "accesspolicies", &policies).await?;
    let subscriptions: [(&str, &[&str]); 4] = [
        ("mobile", &["gold", "Active"]),
        ("paused", &["gold", "Suspended"]),
        ("old", &["gold", "Expired", "2020-01-01T00:00:00Z"]),
        ("nowhere", &["bronze", "Invalid"]),
    ];
    rows(&shop, "accesssubscriptions", &subscriptions).await?;
    rows(&shop, "accessplans", &[("gold", &["Gold", "Automatic", "1", "True"])]).await?;

    let policy = shop.programmed("office").await?;
    let accepted = condition(&policy, "Accepted").context("not accepted")?;
    assert_eq!(accepted.get("status").and_then(Value::as_str), Some("True"), "{accepted}");
    assert_eq!(
        policy.pointer("/status/observedGeneration"),
        policy.pointer("/metadata/generation")
    );
    Ok(())
}

/// `kubectl get` prints, for each object, these words in this order.
async fn rows(shop: &Shop, kind: &str, expected: &[(&str, &[&str])]) -> anyhow::Result<()> {
    let command = format!("get {kind} --namespace {}", shop.namespace);
    eventually(LONG, &format!("`{command}` tells everything"), async || {
        let text = shop.world.kubectl(&command)?;
        for (name, words) in expected {
            let row = text.lines().find(|row| row.split_whitespace().next() == Some(name));
            let mut columns = row.with_context(|| text.clone())?.split_whitespace();
            let told = words.iter().all(|word| columns.any(|column| column == *word));
            ensure!(told, "{name} should have {words:?}:\n{text}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn the_published_address_stands_in_the_status_of_the_ingress() -> anyhow::Result<()>
{
    let _noise = SILENCE.read().await;
    let shop = Shop::open("published", 13).await?;
    let foreign = shop
        .ingress(None)
        .replace("name: web", "name: foreign")
        .replace("published.test", "foreign.test")
        .replace("ingressClassName: whygate", "ingressClassName: nginx");
    shop.world.apply(&(shop.ingress(None) + &foreign))?;
    let address = |name: &str| {
        shop.world.kubectl(&format!(
            "get ingress {name} --namespace published -o jsonpath={{.status.loadBalancer.ingress[*].ip}}"
        ))
    };
    eventually(LONG, "the Ingress has the published address", async || {
        let found = address("web")?;
        ensure!(found == PUBLISHED, "`{found}`");
        Ok(())
    })
    .await?;
    assert_eq!(address("foreign")?, "", "an Ingress of another controller was written to");
    Ok(())
}

pub(crate) async fn own_status_writes_and_events_compile_nothing() -> anyhow::Result<()> {
    const GENERATION: &str = "whygate_snapshot_generation";
    /// Many times what a compile after a status write would need.
    const STILL: Duration = Duration::from_secs(3);

    let _silence = SILENCE.write().await;
    let shop = Shop::open("silence", 14).await?;
    shop.world.apply(
        &(shop.ingress(None)
            + &shop.policy("nobody", &[], "  require: [{ name: nobody, ip: { cidrs: [] } }]")),
    )?;
    shop.programmed("nobody").await?;
    let mut generation = 0;
    eventually(LONG, "the last change has been compiled", async || {
        let before =
            std::mem::replace(&mut generation, world().await?.whygate.metric(GENERATION).await?);
        sleep(Duration::from_millis(700)).await;
        ensure!(before == generation, "from {before} to {generation}");
        Ok(())
    })
    .await?;

    // Events are written, and somebody else writes a status.
    let mut api = shop.world.cluster.server.api().await?;
    assert_eq!(code(&shop.get(99, "/").await?), (403, "AddressNotAllowed"));
    let path = e2e::cluster::policy_path(shop.namespace, "nobody") + "/status";
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < STILL {
        number += 1;
        let change = serde_json::json!({ "status": { "targets": { "matched": number } } });
        api.patch(&path, &change).await?;
        sleep(Duration::from_millis(100)).await;
    }
    ensure!(!api.events(shop.namespace, "Ingress").await?.is_empty(), "no Event was written");
    assert_eq!(shop.world.whygate.metric(GENERATION).await?, generation);
    Ok(())
}
