//! Two releases of Whygate in one cluster: each has a class and a controller name of its own, and
//! both see the policies of all namespaces.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use e2e::cluster::policy_path;
use e2e::{Cluster, Shop, Whygate, eventually, manifests};
use tokio::time::Instant;

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        each_writes_the_statuses_of_its_own_and_none_is_written_again_and_again,
        what_a_release_that_is_gone_wrote_is_taken_over,
        a_second_release_of_the_same_class_is_told_of,
    ],
);

const LONG: Duration = Duration::from_mins(1);

/// A release is taken for gone if a status of its own is wrong for two minutes.
const GONE: Duration = Duration::from_mins(3);

/// Statuses are compared every 15 s: in this time whoever fights over one writes it twice.
const STILL: Duration = Duration::from_secs(32);

/// The first sums of refusals are there within 30 s, and are written in turn.
const SETTLED: Duration = Duration::from_mins(3);

const OUTER: &str = "whygate.dev/ingress-controller";
const INNER: &str = "example.com/inner";

const OFFICE: u8 = 3;

/// The policies, by who has an Ingress that they name: the outer release, the inner one, both, nobody.
const POLICIES: [&str; 4] = ["office", "inside", "both", "nowhere"];

async fn start(kubeconfig: &Path, class: &str, controller: &str) -> anyhow::Result<Whygate> {
    let class = format!("--ingress-class={class}");
    let name = format!("--controller-name={controller}");
    let flags = ["--infrastructure-cidrs=none", "--lease-namespace=whygate", &class, &name];
    Whygate::run(kubeconfig, &flags).await
}

async fn each_writes_the_statuses_of_its_own_and_none_is_written_again_and_again()
-> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "shared", 93).await?;
    cluster.server.apply(&scene(&shop))?;
    let outer_account = cluster.account("outer")?;
    let inner_account = cluster.account("inner")?;
    let inner = start(&inner_account, "inner", INNER).await?;
    let outer = start(&outer_account, "whygate", OUTER).await?;

    written_by(&cluster, &shop, "office", OUTER, LONG).await?;
    written_by(&cluster, &shop, "inside", INNER, LONG).await?;
    stands_still(&cluster, shop.namespace).await?;
    // Who was second says of the policy of both that it leaves the status alone, and once.
    let said = "is written by another release";
    let lines = [&outer, &inner].map(|release| release.output().matches(said).count());
    ensure!(lines == [0, 1] || lines == [1, 0], "{lines:?}");

    // A policy that turns to the other release's Ingress has that release's status.
    cluster.server.apply(&shop.office("inside", OFFICE))?;
    written_by(&cluster, &shop, "office", INNER, LONG).await
}

async fn what_a_release_that_is_gone_wrote_is_taken_over() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "left", 94).await?;
    cluster.server.apply(&scene(&shop))?;
    let mut inner = start(&cluster.account("inner")?, "inner", INNER).await?;
    written_by(&cluster, &shop, "inside", INNER, LONG).await?;
    let _outer = start(&cluster.account("outer")?, "whygate", OUTER).await?;
    written_by(&cluster, &shop, "office", OUTER, LONG).await?;

    inner.kill();
    cluster.server.apply(&policy(&shop, "inside", "web"))?;
    written_by(&cluster, &shop, "inside", OUTER, GONE).await
}

/// Waits until a policy has the status of this controller, which says that the newest generation is
/// enforced at one Ingress.
async fn written_by(
    cluster: &Cluster,
    shop: &Shop,
    policy: &str,
    controller: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    let path = policy_path(shop.namespace, policy);
    eventually(limit, &format!("{policy} has the status of {controller}"), async || {
        let policy = cluster.server.api().await?.get(&path).await?;
        let status = policy.get("status").context("no status yet")?;
        ensure!(status.get("controllerName") == Some(&controller.into()), "{status}");
        ensure!(status.pointer("/targets/matched") == Some(&1.into()), "{status}");
        Ok(())
    })
    .await?;
    cluster.programmed(shop.namespace, policy).await.map(drop)
}

/// The statuses of all objects stay as they are for as long as two comparisons last.
async fn stands_still(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let (mut before, mut since) = (Vec::new(), Instant::now());
    let mut api = cluster.server.api().await?;
    eventually(SETTLED, "no status is written any more", async || {
        let mut versions = Vec::new();
        for path in paths(namespace) {
            let object = api.get(&path).await?;
            let version = object.pointer("/metadata/resourceVersion").cloned();
            let status = object.get("status").context("no status yet")?;
            if path.contains("/accesspolicies/") {
                ensure!(status.get("denials").is_some(), "not summed yet: {status}");
            }
            versions.push((path, version));
        }
        if versions != before {
            (before, since) = (versions, Instant::now());
        }
        let still = since.elapsed();
        ensure!(still >= STILL, "only for {still:?}: {before:?}");
        // Nor does anybody try: a write that is refused, or changes nothing, is one, too.
        let tried = last_status_write(cluster)?.elapsed()?;
        ensure!(tried >= STILL, "the last was tried {tried:?} ago");
        Ok(())
    })
    .await
}

/// When somebody last asked the API server to write a status.
fn last_status_write(cluster: &Cluster) -> anyhow::Result<SystemTime> {
    let writes = cluster.server.writes()?;
    let last = writes.iter().rfind(|write| write.resource.ends_with("/status"));
    Ok(SystemTime::UNIX_EPOCH + last.context("no status was ever written")?.at)
}

fn paths(namespace: &str) -> Vec<String> {
    let rest = ["accessplans/gold", "accesssubscriptions/mobile"]
        .map(|object| format!("/apis/whygate.dev/v1alpha1/namespaces/{namespace}/{object}"));
    POLICIES.map(|policy| policy_path(namespace, policy)).into_iter().chain(rest).collect()
}

/// A policy on one Ingress that admits whoever reads.
fn policy(shop: &Shop, name: &str, ingress: &str) -> String {
    let rules = "  require: [{ name: read, methods: [GET] }]";
    manifests::policy(shop.namespace, name, ingress, &[], rules)
}

/// An Ingress of each release, a policy of each kind, a plan and a subscription.
fn scene(shop: &Shop) -> String {
    let inside = shop.ingress_named("inside", &format!("inside.{}", shop.host), None);
    let inside = inside.replace("ingressClassName: whygate", "ingressClassName: inner");
    let second = ", { group: networking.k8s.io, kind: Ingress, name: inside }]\n";
    let both = policy(shop, "both", "web").replace("]\n  require", &format!("{second}  require"));
    let policies = [shop.office("web", OFFICE), policy(shop, "inside", "inside"), both];
    let sum = "0".repeat(64);
    shop.ingress(None)
        + &inside
        + &policies.concat()
        + &policy(shop, "nowhere", "nobody")
        + &format!(
            "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{ name: inner }}
spec: {{ controller: {INNER} }}
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPlan
metadata: {{ name: gold, namespace: {namespace} }}
spec: {{ displayName: Gold, approval: Automatic }}
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: {{ name: mobile, namespace: {namespace} }}
spec:
  planRef: {{ namespace: {namespace}, name: gold }}
  credentials: [{{ apiKey: {{ id: mobile01, sha256: '{sum}' }} }}]
",
            namespace = shop.namespace
        )
}

async fn a_second_release_of_the_same_class_is_told_of() -> anyhow::Result<()> {
    /// Statuses are looked at every 15 s, and two releases have to meet twice.
    const TURNS: Duration = Duration::from_mins(2);

    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "releases", 92).await?;
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
