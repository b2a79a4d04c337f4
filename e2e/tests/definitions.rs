//! Definitions of our kinds that are removed, or changed behind our back, while the program runs:
//! nothing that was closed opens, and afterwards everything goes on without a restart.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::cluster::{condition, policy_path};
use e2e::{Client, Cluster, Hammer, Shop, Whygate, eventually, shop};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        a_deleted_definition_leaves_its_last_policies_in_force_until_they_are_installed_again,
        a_definition_that_is_being_deleted_takes_nothing_away_and_lets_nobody_start,
        an_undecodable_policy_closes_what_it_names_or_else_its_whole_namespace,
    ],
);

const LONG: Duration = Duration::from_secs(30);

const DEFINITION: &str = "accesspolicies.whygate.dev";

/// Counts what the removal of a definition would have taken away.
const IGNORED: &str = "whygate_deletions_ignored_total";

/// Who is admitted, who is after the policies have changed, and who never is.
const OFFICE: u8 = 3;
const MOVED: u8 = 4;
const STRANGER: u8 = 99;

/// A program with a route that its policy closes for most, and one beside it that is open.
struct Scene {
    cluster: &'static Cluster,
    whygate: Whygate,
    shop: Shop,
    free: String,
    /// Definitions are everybody's: these tests run one after the other.
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    async fn open(namespace: &'static str, third: u8) -> anyhow::Result<Self> {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        static ALONE: Mutex<()> = Mutex::const_new(());

        let alone = ALONE.lock().await;
        let cluster = CLUSTER.get_or_try_init(Cluster::start).await?;
        // A test that failed may have left them as they must not be.
        cluster.install_definitions()?;
        let shop = Shop::open(&cluster.server, namespace, third).await?;
        let free = format!("free.{}", shop.host);
        let manifests = [
            shop.ingress(None),
            shop.office("web", OFFICE),
            shop.ingress_named("free", &free, None),
        ];
        cluster.server.apply(&manifests.concat())?;
        let kubeconfig = cluster.account("definitions")?;
        let flags = ["--infrastructure-cidrs=none", "--watch-namespace", namespace];
        let whygate = Whygate::run(&kubeconfig, &flags).await?;
        let this = Self { cluster, whygate, shop, free, _alone: alone };
        this.until(OFFICE, (200, "")).await?;
        this.stands().await?;
        Ok(this)
    }

    async fn until(&self, fourth: u8, expected: (u16, &str)) -> anyhow::Result<()> {
        self.shop.until(&self.whygate, fourth, "/", expected).await.map(drop)
    }

    /// What the policy says holds now, and the route beside it is open.
    async fn stands(&self) -> anyhow::Result<()> {
        for (fourth, host, expected) in [
            (OFFICE, &self.shop.host, (200, "")),
            (MOVED, &self.shop.host, (403, "AddressNotAllowed")),
            (STRANGER, &self.shop.host, (403, "AddressNotAllowed")),
            (STRANGER, &self.free, (200, "")),
        ] {
            let answer = self.shop.client(&self.whygate, fourth)?.get(host, "/").await?;
            let found = e2e::client::code(&answer);
            ensure!(found == expected, "{host} for {fourth}: {found:?} {}", answer.text());
        }
        let ready = Client::new(self.whygate.admin()?).get("127.0.0.1", "/readyz").await?;
        ensure!(ready.status == 200, "no longer ready: {}", ready.text());
        Ok(())
    }

    /// Waits until a deletion was ignored that the removal of the definition brought about.
    async fn ignores_deletions(&self) -> anyhow::Result<()> {
        eventually(LONG, "the deletions that are ignored are counted", async || {
            let ignored = self.whygate.metric(IGNORED).await?;
            ensure!(ignored > 0, "{ignored}");
            Ok(())
        })
        .await?;
        self.whygate.line(LONG, "Definition is being deleted").await.map(drop)
    }

    /// Installs the definitions and another policy: that one is enforced, without a restart.
    async fn install_again(&self) -> anyhow::Result<()> {
        self.cluster.install_definitions()?;
        self.apply(&self.shop.office("web", MOVED)).await?;
        self.until(MOVED, (200, "")).await?;
        self.until(OFFICE, (403, "AddressNotAllowed")).await?;
        self.cluster.programmed(self.shop.namespace, "office").await.map(drop)
    }

    /// Installs the definitions alone: the policy that is not there any more holds all the same.
    async fn install_definitions_again(&self) -> anyhow::Result<()> {
        self.cluster.install_definitions()?;
        eventually(LONG, "the policy is missed", async || {
            let orphans = self.whygate.metric("whygate_orphaned_objects").await?;
            ensure!(orphans == 1, "{orphans}");
            Ok(())
        })
        .await?;
        self.stands().await
    }

    /// Applies manifests as soon as the API server takes them: a definition is served a little
    /// after it is established.
    async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        eventually(LONG, "the API server takes the policy", async || {
            self.cluster.server.apply(manifests).map(drop)
        })
        .await
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.cluster.server.kubectl(arguments)?.success().map(drop)
    }

    /// Sets who holds the definition back from being removed.
    fn finalizers(&self, names: &str) -> anyhow::Result<()> {
        let change = format!(r#"{{"metadata":{{"finalizers":[{names}]}}}}"#);
        self.kubectl(&["patch", "crd", DEFINITION, "--type=merge", "--patch", &change])
    }
}

async fn a_deleted_definition_leaves_its_last_policies_in_force_until_they_are_installed_again()
-> anyhow::Result<()> {
    let scene = Scene::open("deleted", 80).await?;
    let before = scene.whygate.metric(IGNORED).await?;
    assert_eq!(before, 0, "a deletion was ignored before there was one");
    let stranger = scene.shop.client(&scene.whygate, STRANGER)?;
    let hammer = Hammer::start(stranger, &scene.shop.host, "/");

    scene.kubectl(&["delete", "crd", DEFINITION, "--timeout=60s"])?;
    scene.ignores_deletions().await?;
    scene.stands().await?;
    // The watch now finds out that the kind is gone.
    scene.whygate.line(LONG, "does not know accesspolicies").await?;
    scene.stands().await?;

    scene.install_definitions_again().await?;
    scene.install_again().await?;
    hammer.stop_and_expect(&[(403, "AddressNotAllowed")]).await
}

async fn a_definition_that_is_being_deleted_takes_nothing_away_and_lets_nobody_start()
-> anyhow::Result<()> {
    const CLEANUP: &str = r#""customresourcecleanup.apiextensions.k8s.io""#;

    let scene = Scene::open("terminating", 81).await?;
    scene.finalizers(&format!(r#"{CLEANUP},"whygate.dev/held""#))?;
    scene.kubectl(&["delete", "crd", DEFINITION, "--wait=false"])?;
    scene.ignores_deletions().await?;
    scene.stands().await?;

    let kubeconfig = scene.cluster.account("late")?;
    let mut late = Whygate::begin_run(&kubeconfig, &["--infrastructure-cidrs=none"])?;
    let said = late.line(LONG, &format!("`{DEFINITION}` is being deleted")).await?;
    ensure!(late.try_ready().is_err(), "it got ready without policies: {said}");
    scene.stands().await?;

    scene.finalizers("")?;
    scene.kubectl(&["wait", "--for=delete", "crd", DEFINITION, "--timeout=60s"])?;
    scene.install_definitions_again().await?;
    scene.install_again().await?;
    late.wait_ready().await?;
    scene.shop.until(&late, MOVED, "/", (200, "")).await?;
    scene.shop.until(&late, STRANGER, "/", (403, "AddressNotAllowed")).await.map(drop)
}

async fn an_undecodable_policy_closes_what_it_names_or_else_its_whole_namespace()
-> anyhow::Result<()> {
    // The definition of somebody who took its schema away: it keeps whatever comes.
    const SCHEMA: &str = r#"[{ "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } }]"#;

    let scene = Scene::open("undecodable", 82).await?;
    let namespace = scene.shop.namespace;
    let free = scene.shop.client(&scene.whygate, STRANGER)?;
    scene.kubectl(&["patch", "crd", DEFINITION, "--type=json", "--patch", SCHEMA])?;

    scene.apply(&policy(namespace, "[{ kind: Ingress, name: web }]")).await?;
    scene.until(OFFICE, (503, "PolicyInvalid")).await?;
    let path = policy_path(namespace, "office");
    eventually(LONG, "the policy's condition names the field", async || {
        let policy = scene.cluster.server.api().await?.get(&path).await?;
        let accepted = condition(&policy, "Accepted").context("no such condition")?;
        let status = accepted.get("status").and_then(Value::as_str);
        let named = accepted.to_string().contains("spec.require");
        ensure!(status == Some("False") && named, "{accepted}");
        Ok(())
    })
    .await?;
    shop::until(&free, &scene.free, "/", (200, "")).await?;

    scene.apply(&policy(namespace, "everything")).await?;
    shop::until(&free, &scene.free, "/", (503, "PolicyInvalid")).await?;
    scene.until(OFFICE, (503, "PolicyInvalid")).await?;

    scene.install_again().await?;
    shop::until(&free, &scene.free, "/", (200, "")).await.map(drop)
}

/// A policy `office` that nobody can read, with these targets.
fn policy(namespace: &str, targets: &str) -> String {
    format!(
        "
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: office, namespace: {namespace} }}
spec: {{ targetRefs: {targets}, require: 7 }}
"
    )
}
