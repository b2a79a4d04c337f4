//! Rights without which something is not told: routes are judged all the same, and a line of the log
//! names the verb.

use anyhow::ensure;
use e2e::corpus::Credentials;
use e2e::{Cluster, Shop, Whygate, eventually, manifests, say};

use crate::{LONG, shared};

const NAMESPACE: &str = "telling";
const OFFICE: u8 = 3;
const STRANGER: u8 = 99;

/// What is missing, and what else the program is told.
struct Lack {
    resource: &'static str,
    verb: &'static str,
    flags: &'static [&'static str],
    /// What it watches.
    namespace: &'static str,
    /// Whether it is said only at the end.
    last: bool,
}

const fn lack(resource: &'static str, verb: &'static str, flags: &'static [&'static str]) -> Lack {
    Lack { resource, verb, flags, namespace: NAMESPACE, last: false }
}

const LACKS: [Lack; 9] = [
    lack("events", "create", &[]),
    lack("events", "patch", &["--denial-window-seconds=1"]),
    lack("ingresses/status", "patch", &["--publish-address=192.0.2.1"]),
    // Each in a namespace of its own, or others have written the status before.
    Lack { namespace: "told-0", ..lack("accesspolicies/status", "patch", &[]) },
    Lack { namespace: "told-1", ..lack("accessplans/status", "patch", &[]) },
    Lack { namespace: "told-2", ..lack("accesssubscriptions/status", "patch", &[]) },
    lack("services", "get", &["--publish-service=telling/web"]),
    lack("tokenreviews", "create", &[]),
    lack("subjectaccessreviews", "create", &[]),
];

/// Each in a namespace of its own, or they would be replicas of one release.
const LEASES: [Lack; 6] = [
    lack("leases", "patch", &["--lease-namespace=lease-0"]),
    lack("leases", "create", &["--lease-namespace=lease-1"]),
    lack("leases", "list", &["--lease-namespace=lease-2"]),
    lack("leases", "update", &["--lease-namespace=lease-3"]),
    lack("leases", "get", &["--lease-namespace=lease-4"]),
    Lack { last: true, ..lack("leases", "delete", &["--lease-namespace=lease-5"]) },
];

pub(crate) async fn a_right_to_tell_that_is_missing_is_named_with_its_verb_and_stops_nothing()
-> anyhow::Result<()> {
    const PLAN: &str = "---
apiVersion: whygate.dev/v1alpha1
kind: AccessPlan
metadata: { name: gold, namespace: telling }
spec: { displayName: Gold, approval: Automatic }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: mobile, namespace: telling }
spec:
  planRef: { namespace: telling, name: gold }
  credentials: [{ apiKey: { id: '${id:mobile}', sha256: '${sha256:mobile}' } }]
";

    let cluster = shared().await?;
    let shop = Shop::open(&cluster.server, NAMESPACE, 36).await?;
    cluster.server.apply(&(shop.ingress(None) + &shop.office("web", OFFICE)))?;
    let rules = "  require: [{ name: office, methods: [GET] }]";
    for namespace in ["told-0", "told-1", "told-2"] {
        let plan = Credentials::new()?.fill(&PLAN.replace("telling", namespace))?;
        let policy = manifests::policy(namespace, "office", "web", &[], rules);
        cluster.server.apply(&(manifests::namespace(namespace) + &policy + &plan))?;
    }
    for number in 0..LEASES.len() {
        cluster.server.apply(&manifests::namespace(&format!("lease-{number}")))?;
    }
    let mut running = Vec::new();
    for lack in LACKS.iter().chain(&LEASES) {
        running.push((lack, begin(cluster, lack)?));
    }
    for (lack, whygate) in &mut running {
        whygate.wait_ready().await?;
        if lack.namespace == NAMESPACE {
            shop.until(whygate, OFFICE, "/", (200, "")).await?;
            shop.until(whygate, STRANGER, "/", (403, "AddressNotAllowed")).await?;
        }
        if lack.last {
            whygate.line(LONG, "\"leads\":true").await?;
            whygate.sigterm()?;
        }
    }
    for (lack, whygate) in &mut running {
        let told = told(&shop, lack, whygate).await?;
        say(&format!("missing right: {told}"));
    }
    Ok(())
}

fn begin(cluster: &Cluster, lack: &Lack) -> anyhow::Result<Whygate> {
    let Lack { resource, verb, flags, namespace, .. } = lack;
    let name = format!("no-{verb}-{}", resource.replace('/', "-"));
    let lacking = Some((*resource, *verb));
    let kubeconfig = cluster.account_without(&name, lacking, cluster.server.address())?;
    let always = [
        "--infrastructure-cidrs=none",
        "--shutdown-delay-seconds=0",
        "--watch-namespace",
        namespace,
    ];
    Whygate::begin_run(&kubeconfig, &[&always[..], flags].concat())
}

/// The line that names the right.
async fn told(shop: &Shop, lack: &Lack, whygate: &Whygate) -> anyhow::Result<String> {
    let (right, grant) = (format!("the right to {} ", lack.verb), "is missing");
    eventually(LONG, &format!("it names {} {}", lack.verb, lack.resource), async || {
        if !lack.last && lack.namespace == NAMESPACE {
            // Only what is refused anew makes an Event that has to be updated.
            shop.client(whygate, STRANGER)?.get(&shop.host, "/").await?;
        }
        let output = whygate.output();
        let parts = [right.as_str(), lack.resource, grant, "grant"];
        let line = output.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(line.is_some(), "{output}");
        Ok(line.unwrap_or_default().to_owned())
    })
    .await
}
