//! A hundred changes of manifests a second through the whole pipeline, under load: no request is
//! lost, and none is judged by one snapshot and forwarded by another.
//!
//! In a directory a route and its policy change in one file, at once, so a mixture of two snapshots
//! shows. On an API server they are two objects whose changes have no common order; there only
//! policies change, and nobody may be lost or let in. Each lasts 10 s; `WHYGATE_CHANGES_SECONDS=60`
//! makes them longer.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use e2e::client::{empty, request};
use e2e::cluster::policy_path;
use e2e::manifests::{self, Ingress, backend};
use e2e::upstream::Echo;
use e2e::{Client, Cluster, Connection, Upstream, Whygate, address, say};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        no_request_is_lost_or_judged_by_a_mixture_while_manifests_change,
        no_request_is_lost_or_let_in_while_policies_change_on_the_api_server,
    ],
);

const CHANGES_PER_SECOND: u32 = 100;

/// How many pairs of route and policy there are. Each pair is one file, so that it changes at once.
const PAIRS: u32 = 20;

/// How many connections ask from each side's address.
const CONNECTIONS: usize = 2;

/// The two sides between which each pair changes. A route that leads to one side's upstream has a
/// policy that admits that side's address and no other: whoever reaches the upstream of the other
/// side was judged by one snapshot and forwarded by another.
const SIDES: [(&str, u8); 2] = [("left", 1), ("right", 2)];

async fn no_request_is_lost_or_judged_by_a_mixture_while_manifests_change() -> anyhow::Result<()> {
    let left = Upstream::start((address(60, 1), 0).into(), "left").await?;
    let right = Upstream::start((address(60, 2), 0).into(), "right").await?;
    let folder = tempfile::tempdir()?;
    let backends =
        backend("shop", "left", left.address()) + &backend("shop", "right", right.address());
    fs::write(folder.path().join("backends.yaml"), backends)?;
    for pair in 0..PAIRS {
        write(folder.path(), pair, 0)?;
    }
    let whygate = Whygate::serve(folder.path(), &[]).await?;
    let before = generation(&whygate).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    let outcome = Arc::new(Outcome::default());
    for (side, fourth) in SIDES {
        for _ in 0..CONNECTIONS {
            let source = IpAddr::from(address(61, fourth));
            let asked = ask(whygate.http()?, source, side, Arc::clone(&stop), Arc::clone(&outcome));
            clients.spawn(asked);
        }
    }
    let changes = change(folder.path(), length()?).await?;
    stop.store(true, Ordering::Relaxed);
    while let Some(asked) = clients.join_next().await {
        asked??;
    }
    let snapshots = generation(&whygate).await? - before;
    let (passed, refused) =
        (outcome.passed.load(Ordering::Relaxed), outcome.refused.load(Ordering::Relaxed));
    say(&format!(
        "{changes} changes in {:?}, {snapshots} snapshots: {passed} requests passed, {refused} were \
         refused, {} verdicts turned, none was lost or judged by a mixture",
        length()?,
        outcome.turns.load(Ordering::Relaxed),
    ));
    let seconds = length()?.as_secs();
    // Files that change without a pause are read again and again before they count.
    assert!(snapshots >= seconds / 2, "{snapshots} snapshots only");
    assert!(passed > 0 && refused > 0, "{passed} passed, {refused} were refused");
    assert!(outcome.turns.load(Ordering::Relaxed) >= snapshots, "few changes were seen");
    Ok(())
}

/// A route to one side's upstream, and its policy that admits these addresses.
fn pair_of(side: &str, pair: u32, admitted: &[u8]) -> String {
    let (name, host) = (format!("web-{pair}"), format!("shop-{pair}.test"));
    let paths = [("/", side)];
    let ingress = Ingress {
        namespace: "shop",
        name: &name,
        host: &host,
        paths: &paths,
        requires: Some(&name),
        tls: None,
    };
    let cidrs: Vec<String> =
        admitted.iter().map(|fourth| format!("{}/32", address(61, *fourth))).collect();
    let cidrs = cidrs.join(", ");
    let rules = format!("  require: [{{ name: {side}, ip: {{ cidrs: [{cidrs}] }} }}]");
    ingress.manifest() + &manifests::policy("shop", &name, &name, &[], &rules)
}

/// Writes a pair as it stands in a generation.
fn write(folder: &Path, pair: u32, generation: u32) -> anyhow::Result<()> {
    let (side, fourth) = if generation.is_multiple_of(2) { SIDES[0] } else { SIDES[1] };
    // Put into its place whole: half a file would be a manifest of its own.
    let part = folder.join(format!(".web-{pair}"));
    fs::write(&part, pair_of(side, pair, &[fourth]))?;
    fs::rename(part, folder.join(format!("web-{pair}.yaml")))?;
    Ok(())
}

/// Changes one pair after the other, a hundred times a second, and gives back how many times.
async fn change(folder: &Path, length: Duration) -> anyhow::Result<u32> {
    let mut tick = interval(Duration::from_secs(1) / CHANGES_PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut changes = 0;
    while begun.elapsed() < length {
        tick.tick().await;
        write(folder, changes % PAIRS, 1 + changes / PAIRS)?;
        changes += 1;
    }
    Ok(changes)
}

/// What the clients saw.
#[derive(Default)]
struct Outcome {
    passed: AtomicU64,
    refused: AtomicU64,
    /// How often the same question was answered otherwise than the time before.
    turns: AtomicU64,
}

/// Asks every route again and again over one connection.
async fn ask(
    http: SocketAddr,
    source: IpAddr,
    side: &'static str,
    stop: Arc<AtomicBool>,
    outcome: Arc<Outcome>,
) -> anyhow::Result<()> {
    let mut connection = Client::new(http).from(source).connect("shop.test").await?;
    let mut last = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for pair in 0..PAIRS {
            let passed = asked(&mut connection, pair, side).await?;
            let count = if passed { &outcome.passed } else { &outcome.refused };
            count.fetch_add(1, Ordering::Relaxed);
            if last.insert(pair, passed).is_some_and(|before| before != passed) {
                outcome.turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Whether a request passed. Anything but this side's upstream or the policy's refusal is an error.
async fn asked(connection: &mut Connection, pair: u32, side: &str) -> anyhow::Result<bool> {
    let request = request(Method::GET, &format!("shop-{pair}.test"), "/").body(empty())?;
    let answer = connection.send(request).await.context("a request was lost")?;
    let code = answer.header("whygate-denial-code");
    match answer.status.as_u16() {
        200 => {
            let upstream = answer.json::<Echo>()?.upstream;
            ensure!(upstream == side, "a request of {side} reached {upstream}: a mixture");
            Ok(true)
        }
        403 if code == "AddressNotAllowed" => Ok(false),
        _ => bail!("a request was lost: {} {}", answer.status, answer.text()),
    }
}

/// Who is admitted by every generation of a policy, and by none.
const ALWAYS: u8 = 3;
const NEVER: u8 = 4;

/// How many connections write to the API server.
const WRITERS: u32 = 4;

async fn no_request_is_lost_or_let_in_while_policies_change_on_the_api_server() -> anyhow::Result<()>
{
    let cluster = Arc::new(Cluster::start().await?);
    let upstream = Upstream::start((address(62, 1), 0).into(), "left").await?;
    let mut manifests = manifests::namespace("shop") + &backend("shop", "left", upstream.address());
    for pair in 0..PAIRS {
        manifests += &pair_of("left", pair, &[ALWAYS, 1]);
    }
    cluster.server.apply(&manifests)?;
    let kubeconfig = cluster.account("changes")?;
    let flags = ["--infrastructure-cidrs=none", "--default-posture=closed"];
    let whygate = Whygate::run(&kubeconfig, &flags).await?;
    let before = generation(&whygate).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    let outcomes: Vec<Arc<Outcome>> = [ALWAYS, NEVER, 1].map(|_| Arc::default()).into();
    for (outcome, fourth) in outcomes.iter().zip([ALWAYS, NEVER, 1]) {
        let (source, outcome) = (IpAddr::from(address(61, fourth)), Arc::clone(outcome));
        clients.spawn(ask(whygate.http()?, source, "left", Arc::clone(&stop), outcome));
    }
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(patch(Arc::clone(&cluster), writer));
    }
    let mut changes = 0;
    while let Some(written) = writers.join_next().await {
        changes += written??;
    }
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    while let Some(asked) = clients.join_next().await {
        asked??;
    }
    let snapshots = generation(&whygate).await? - before;
    let count = |outcome: &Outcome| {
        (outcome.passed.load(Ordering::Relaxed), outcome.refused.load(Ordering::Relaxed))
    };
    let [always, never, swinging] = outcomes.as_slice() else { bail!("three clients") };
    say(&format!(
        "{changes} changes on the API server in {took:?}, {snapshots} snapshots: of (passed, refused) \
         requests the one who is always admitted had {:?}, the one who never is {:?}, the one in \
         between {:?}",
        count(always),
        count(never),
        count(swinging),
    ));
    let ((_, refused), (passed, judged)) = (count(always), count(never));
    assert_eq!((refused, passed), (0, 0), "somebody was judged by no generation of a policy");
    assert!(judged > 0 && swinging.turns.load(Ordering::Relaxed) > 0, "no change was seen");
    assert!(snapshots >= took.as_secs(), "{snapshots} snapshots only");
    Ok(())
}

/// Changes this writer's share of the policies at its share of the rate, and gives back how often.
async fn patch(cluster: Arc<Cluster>, writer: u32) -> anyhow::Result<u32> {
    let mut api = cluster.server.api().await?;
    let mut tick = interval(Duration::from_secs(1) * WRITERS / CHANGES_PER_SECOND);
    let begun = Instant::now();
    let mut changes = 0;
    while begun.elapsed() < length()? {
        tick.tick().await;
        let pair = writer + WRITERS * (changes % (PAIRS / WRITERS));
        let other = if (changes * WRITERS / PAIRS).is_multiple_of(2) { 2 } else { 1 };
        let cidrs = [ALWAYS, other].map(|fourth| format!("{}/32", address(61, fourth)));
        let change =
            json!({ "spec": { "require": [{ "name": "left", "ip": { "cidrs": cidrs } }] } });
        api.patch(&policy_path("shop", &format!("web-{pair}")), &change).await?;
        changes += 1;
    }
    Ok(changes)
}

async fn generation(whygate: &Whygate) -> anyhow::Result<u64> {
    whygate.metric("whygate_snapshot_generation").await
}

fn length() -> anyhow::Result<Duration> {
    const VARIABLE: &str = "WHYGATE_CHANGES_SECONDS";

    let seconds = env::var(VARIABLE).unwrap_or_else(|_| "10".into());
    let seconds = seconds.parse().with_context(|| format!("{VARIABLE} is no number: {seconds}"))?;
    Ok(Duration::from_secs(seconds))
}
