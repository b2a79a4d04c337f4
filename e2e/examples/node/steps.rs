//! What is done on the cluster, and what has to be true then.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use e2e::{
    Authority, Client,
    client::{code, empty, request},
    eventually,
};
use http::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    balancer::Balancer,
    cluster::{apply, checkout, get, kubectl, run},
    load::{CLIENTS, Load, Target},
    release::Release,
};

const SOON: Duration = Duration::from_secs(30);

/// The distance of two writes of an Event, and what a killed process can have left unwritten.
const WINDOW: Duration = Duration::from_secs(30);

/// Longest time until an Event counts exactly.
const COUNTED: Duration = Duration::from_secs(75);

/// Longest time until another replica leads.
const SUCCESSION: Duration = Duration::from_secs(20);

/// How long after a kill its connections can still be found broken.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// How many refusals are counted.
const REFUSALS: u64 = 400;

/// Fewest requests of an update, of both protocols together.
const REQUESTS: usize = 20_000;

/// The host that the load asks.
const HOST: &str = "load.test";

pub(crate) fn install(release: Release) -> anyhow::Result<String> {
    release.install(&[])?;
    let pods = release.ready(2)?;
    Ok(pods.join(" "))
}

/// Does what deploy/README.md says, with its own lines.
pub(crate) async fn demo(release: Release) -> anyhow::Result<String> {
    let address = release.address()?;
    eventually(SOON, "the Ingress shows the Service's address", async || {
        let shown = get("ingress shop --namespace demo")?;
        let ip = shown.pointer("/status/loadBalancer/ingress/0/ip").and_then(Value::as_str);
        ensure!(ip == Some(&address), "{ip:?}, and the Service has {address}");
        Ok(())
    })
    .await?;
    let page = fs::read_to_string(checkout().join("deploy/README.md"))?;
    let preamble: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("address=") || line.starts_with("shop() "))
        .collect();
    ensure!(preamble.len() == 2, "deploy/README.md does not say how to reach the demo");
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("shop /")).collect();
    ensure!(lines.len() >= 8, "deploy/README.md has {} requests", lines.len());
    for line in &lines {
        let (command, code) = line.split_once(" # ").unwrap_or((line, ""));
        let script = format!("{}\n{command} --silent", preamble.join("\n"));
        let answer =
            e2e::process::run(&mut Command::new("bash"), &["-euc", &script], "")?.success()?;
        let head = answer.to_lowercase();
        let expected = match code.trim() {
            "" => "http/1.1 200 ".to_owned(),
            code => format!("whygate-denial-code: {}\r", code.to_lowercase()),
        };
        ensure!(head.contains(&expected), "`{line}` was answered\n{answer}");
    }
    let client = Client::new(SocketAddr::new(address.parse()?, 80));
    let seen = client.get("demo.localhost", "/").await?.text();
    ensure!(seen.contains("198.18.1.1"), "the client's own address is not in\n{seen}");
    Ok(format!("{} requests as deploy/README.md says, from 198.18.1.1 at {address}", lines.len()))
}

/// The demo, and beside it an Ingress for the load.
pub(crate) fn serve_demo() -> anyhow::Result<Authority> {
    apply(&demo_manifests()?)?;
    kubectl("rollout status deployment/shop --namespace demo --timeout 60s")?;
    serve_load()
}

/// deploy/demo with the image of this cluster.
fn demo_manifests() -> anyhow::Result<String> {
    let folder = checkout().join("deploy/demo");
    let folder = folder.to_str().context("the path of the checkout is no text")?;
    let manifests = kubectl(&format!("kustomize {folder}"))?;
    let named = "image: whygate:0.0.0";
    ensure!(manifests.contains(named), "the demo does not name its image as it did");
    Ok(manifests.replace(named, "image: whygate.test/whygate:1"))
}

/// Refusals reach both replicas, and the Events of both count every one.
pub(crate) async fn counts(release: Release) -> anyhow::Result<String> {
    let address = release.address()?;
    let client = Client::new(SocketAddr::new(address.parse()?, 80));
    let begun = Instant::now();
    for _ in 0..REFUSALS {
        let answer = client.get(HOST, "/counted").await?;
        ensure!(answer.status == 403, "{}", answer.text());
    }
    let told = eventually(COUNTED, "the Events of both replicas count every refusal", async || {
        let told = told("demo", "load", "MethodRefused")?;
        let sum: u64 = told.values().sum();
        ensure!(told.len() == 2 && sum == REFUSALS, "{told:?}, and {REFUSALS} were refused");
        Ok(told)
    })
    .await?;
    let described = kubectl("describe ingress load --namespace demo")?;
    let lines = described.lines().filter(|line| line.contains(" MethodRefused ")).count();
    ensure!(lines == 2, "kubectl describe shows {lines} lines:\n{described}");
    Ok(format!("{told:?}, exact {:.1} s after the first", begun.elapsed().as_secs_f64()))
}

/// How many refusals of a code the Events of an Ingress count, for each replica that tells of them.
fn told(namespace: &str, ingress: &str, code: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let list = get(&format!(
        "events --namespace {namespace} --field-selector involvedObject.kind=Ingress,involvedObject.name={ingress},reason={code}"
    ))?;
    let mut told = BTreeMap::new();
    for event in list.get("items").and_then(Value::as_array).into_iter().flatten() {
        let text = |path| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let count = event.get("count").and_then(Value::as_u64).unwrap_or(1);
        *told.entry(text("/reportingInstance").to_owned()).or_default() += count;
    }
    Ok(told)
}

/// An Ingress for the load with TLS, and below `/refused` and `/counted` a refusal for everybody.
fn serve_load() -> anyhow::Result<Authority> {
    let authority = Authority::new("load")?;
    apply(&authority.server(&[HOST])?.secret("demo", "load"))?;
    apply(&format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: load
  namespace: demo
  annotations: {{ whygate.dev/ssl-redirect: "false" }}
spec:
  ingressClassName: whygate
  tls: [{{ hosts: [{HOST}], secretName: load }}]
  rules:
  - host: {HOST}
    http:
      paths:
      - {{ path: /, pathType: Prefix, backend: {{ service: {{ name: shop, port: {{ name: http }} }} }} }}
      - {{ path: /refused, pathType: Prefix, backend: {{ service: {{ name: shop, port: {{ name: http }} }} }} }}
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: load, namespace: demo }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: load, paths: [/refused] }}]
  require: [{{ name: elsewhere, ip: {{ cidrs: [192.0.2.0/24] }} }}]
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: counted, namespace: demo }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: load, paths: [/counted] }}]
  require: [{{ name: writing, methods: [POST] }}]
"#
    ))?;
    kubectl(
        "wait accesspolicy load counted --namespace demo --for condition=Programmed --timeout 30s",
    )?;
    Ok(authority)
}

/// Changes a value while clients ask through a balancer that learns late of a pod's end.
pub(crate) async fn upgrade(
    folder: &Path,
    release: Release,
    authority: &Authority,
    round: usize,
) -> anyhow::Result<String> {
    let old = release.ready(2)?;
    let balancer = Balancer::start(folder, release).await?;
    let load = Load::start(&Target {
        http: balancer.http,
        https: Some(balancer.https),
        host: HOST,
        path: "/",
        status: 200,
        trusted: Arc::from(authority.pem()),
    });
    let begun = Instant::now();
    let value = format!("events.windowSeconds={}", 20 + round);
    tokio::task::spawn_blocking(move || release.upgrade(&["--set", &value])).await??;
    let replaced = begun.elapsed();
    eventually(Duration::from_mins(3), "the old pods have ended", async || {
        sleep(Duration::from_secs(1)).await;
        let pods = release.ready(2)?;
        ensure!(pods.iter().all(|pod| !old.contains(pod)), "{pods:?}");
        Ok(())
    })
    .await?;
    let ended = begun.elapsed();
    let deadline = begun + Duration::from_mins(4);
    while load.tally().answered() < REQUESTS && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    let tally = load.stop().await?;
    tally.ensure_complete()?;
    ensure!(tally.answered() >= REQUESTS, "only {} requests", tally.answered());
    ensure!(tally.http1 > REQUESTS / 10 && tally.http2 > REQUESTS / 10, "{tally:?}");
    Ok(format!(
        "0 lost of {} over HTTP/1.1 and {} over HTTP/2; new pods ready after {:.1} s, old ones gone after {:.1} s, {} targets then",
        tally.http1,
        tally.http2,
        replaced.as_secs_f64(),
        ended.as_secs_f64(),
        balancer.targets()
    ))
}

/// Kills the leader's process while clients are refused all the time.
pub(crate) async fn kill(release: Release, authority: &Authority) -> anyhow::Result<String> {
    let address: IpAddr = release.address()?.parse()?;
    let load = Load::start(&Target {
        http: SocketAddr::new(address, 80),
        https: None,
        host: HOST,
        path: "/refused",
        status: 403,
        trusted: Arc::from(authority.pem()),
    });
    sleep(WINDOW / 3).await;
    let long_before = load.tally().answered();
    sleep(WINDOW).await;
    let before = load.tally().answered();
    let leader = leader(release)?;
    let killed = Instant::now();
    kill_process(release, &leader)?;
    let (successor, succeeded) = eventually(SUCCESSION, "another replica leads", async || {
        let holder = self::leader(release)?;
        ensure!(holder != leader, "{holder} leads");
        Ok((holder, killed.elapsed()))
    })
    .await?;
    eventually(SOON, "both replicas are ready again", async || release.ready(2)).await?;
    let tally = load.stop().await?;
    for (at, reason) in &tally.lost {
        let after = at.saturating_duration_since(killed);
        ensure!(*at >= killed && after < IN_FLIGHT, "lost {after:?} after the kill: {reason}");
    }
    ensure!(tally.lost.len() <= CLIENTS, "{} requests lost", tally.lost.len());
    let counted = settled("demo", "load").await?;
    // The killed process had at most all of what came in its last window to write.
    let unwritten = u64::try_from(before - long_before)?;
    let (answered, lost) = (u64::try_from(tally.answered())?, u64::try_from(tally.lost.len())?);
    ensure!(
        counted + unwritten >= answered && counted <= answered + lost,
        "{counted} counted, {answered} refused, {unwritten} of them in the window before the kill"
    );
    Ok(format!(
        "{lost} requests in flight lost, {} connections refused; {successor} leads after {:.1} s; {counted} of {answered} refusals counted, {unwritten} came in the last {WINDOW:?} before",
        tally.refused,
        succeeded.as_secs_f64(),
    ))
}

/// Who holds the leader's Lease.
fn leader(Release(name): Release) -> anyhow::Result<String> {
    let list = get(&format!("leases --namespace {name}"))?;
    let leases = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let lease = leases.map(|lease| lease.get("spec")).find_map(|spec| {
        // That of a replica never changes hands.
        spec?.get("leaseTransitions")?;
        spec?.get("holderIdentity")?.as_str().map(str::to_owned)
    });
    lease.context("nobody has led yet")
}

/// SIGKILL for the process of a pod; its pod goes at once, too, so that the name does not come back.
fn kill_process(Release(name): Release, pod: &str) -> anyhow::Result<()> {
    let path = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = kubectl(&format!("get pod {pod} --namespace {name} --output {path}"))?;
    let id = id.strip_prefix("containerd://").context("no container of containerd")?;
    run("ctr", &["--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id])?;
    kubectl(&format!("delete pod {pod} --namespace {name} --grace-period 0 --force"))?;
    Ok(())
}

/// The count of an Ingress's refusals once no Event of them has changed for longer than a window.
async fn settled(namespace: &str, ingress: &str) -> anyhow::Result<u64> {
    let (mut counted, mut since) = (0, Instant::now());
    while since.elapsed() < WINDOW + Duration::from_secs(6) {
        let sum = told(namespace, ingress, "AddressNotAllowed")?.values().sum();
        if sum != counted {
            (counted, since) = (sum, Instant::now());
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(counted)
}

/// A second release in the same cluster, with no right outside of its namespace.
pub(crate) async fn roles_alone() -> anyhow::Result<String> {
    let release = Release("inner");
    let values = [
        "fullnameOverride=inner",
        "controllerName=example.com/inner",
        "ingressClass.name=inner",
        "watchNamespaces={inner}",
        "rbac.scope=namespaces",
        "replicas=1",
    ];
    release.install(&["--set", &values.join(",")])?;
    let cluster_wide =
        "clusterroles,clusterrolebindings,ingressclasses,validatingadmissionpolicies,namespaces";
    let made = kubectl(&format!(
        "get {cluster_wide} --selector app.kubernetes.io/instance=inner --output name"
    ))?;
    ensure!(made.is_empty(), "outside of namespaces it made {made}");
    apply(INNER)?;
    kubectl("rollout status deployment/echo --namespace inner --timeout 60s")?;
    kubectl(
        "wait accesspolicy/reading --namespace inner --for condition=Programmed --timeout 30s",
    )?;
    let client = Client::new(SocketAddr::new(release.address()?.parse()?, 80));
    eventually(SOON, "it serves and refuses", async || {
        let answer = client.get("inner.test", "/").await?;
        ensure!(answer.status == 200, "{}", answer.text());
        let post = request(Method::POST, "inner.test", "/").body(empty())?;
        let answer = client.send(post).await?;
        ensure!(code(&answer) == (403, "MethodRefused"), "{}", answer.text());
        Ok(())
    })
    .await?;
    eventually(SOON, "it tells its refusal", async || {
        let told = told("inner", "inner", "MethodRefused")?;
        ensure!(told.len() == 1, "{told:?}");
        Ok(())
    })
    .await?;
    let pods = release.ready(1)?;
    let log = release.log(pods.first().context("no pod")?)?;
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("--without-cluster-policies")).collect();
    ensure!(said.len() == 1, "it does not say what it cannot do:\n{log}");
    release.uninstall()?;
    Ok("no object outside of namespaces; it served, refused, told, and said what it cannot do"
        .to_owned())
}

/// What the second release serves.
const INNER: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: { name: echo, namespace: inner }
spec:
  selector: { matchLabels: { app: echo } }
  template:
    metadata: { labels: { app: echo } }
    spec:
      containers:
      - { name: echo, image: whygate.test/whygate:1, args: [echo, '--listen=[::]:8080'], ports: [{ name: http, containerPort: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: echo, namespace: inner }
spec: { selector: { app: echo }, ports: [{ name: http, port: 80, targetPort: http }] }
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: inner, namespace: inner }
spec:
  ingressClassName: inner
  rules:
  - host: inner.test
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: echo, port: { name: http } } } }] }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reading, namespace: inner }
spec:
  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: inner }]
  require: [{ name: reading, methods: [GET] }]
";

/// Removes the release and looks at everything that is left.
pub(crate) async fn uninstall(release: Release) -> anyhow::Result<String> {
    release.uninstall()?;
    let Release(name) = release;
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>().join(",");
    let listed = |scope| format!("api-resources --verbs list --namespaced={scope} --output name");
    let (inside, outside) = (lines(kubectl(&listed(true))?), lines(kubectl(&listed(false))?));
    let left = eventually(SOON, "nothing of the release is left", async || {
        let of_namespace = kubectl(&format!("get {inside} --namespace {name} --output name"))?;
        let of_cluster = kubectl(&format!(
            "get {outside} --selector app.kubernetes.io/instance={name} --output name"
        ))?;
        let of_others = kubectl(&format!(
            "get {inside} --all-namespaces --selector app.kubernetes.io/instance={name} --output name"
        ))?;
        let kept = |line: &&str| {
            // What every namespace has, and what happened there.
            let own = ["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(line);
            !own && !line.starts_with("event")
        };
        let left =
            of_namespace.lines().filter(kept).chain(of_cluster.lines()).chain(of_others.lines());
        let left: Vec<&str> = left.collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    left.await?;
    let definitions = kubectl("get customresourcedefinitions --output name")?;
    let ours = definitions.lines().filter(|line| line.ends_with(".whygate.dev")).count();
    ensure!(ours == 3, "the definitions are {definitions}");
    Ok(format!("{ours} definitions, nothing else"))
}
