//! A hundred changes of manifests a second through the whole pipeline, under load: no request is
//! lost, and none is judged by one snapshot and forwarded by another.
//!
//! The manifests come from a directory: a cluster's API server takes fewer writes a second on two
//! cores, and the pipeline behind both sources is the same. It lasts 10 s;
//! `WHYGATE_CHANGES_SECONDS=60` makes it longer.

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
use e2e::manifests::{self, Ingress, backend};
use e2e::upstream::Echo;
use e2e::{Client, Connection, Upstream, Whygate, address, say};
use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

e2e::suite!(
    needs: [Program],
    tests: [no_request_is_lost_or_judged_by_a_mixture_while_manifests_change],
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
    assert!(snapshots >= seconds, "{snapshots} snapshots only");
    assert!(passed > 0 && refused > 0, "{passed} passed, {refused} were refused");
    assert!(outcome.turns.load(Ordering::Relaxed) >= snapshots, "few changes were seen");
    Ok(())
}

/// Writes a pair as it stands in a generation.
fn write(folder: &Path, pair: u32, generation: u32) -> anyhow::Result<()> {
    let (side, fourth) = if generation.is_multiple_of(2) { SIDES[0] } else { SIDES[1] };
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
    let cidr = address(61, fourth);
    let rules = format!("  require: [{{ name: {side}, ip: {{ cidrs: [{cidr}/32] }} }}]");
    let text = ingress.manifest() + &manifests::policy("shop", &name, &name, &[], &rules);
    // Put into its place whole: half a file would be a manifest of its own.
    let part = folder.join(format!(".{name}"));
    fs::write(&part, text)?;
    fs::rename(part, folder.join(format!("{name}.yaml")))?;
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

async fn generation(whygate: &Whygate) -> anyhow::Result<u64> {
    const METRIC: &str = "whygate_snapshot_generation ";
    let answer = Client::new(whygate.admin()?).get("127.0.0.1", "/metrics").await?;
    let text = answer.text();
    let value = text.lines().find_map(|line| line.strip_prefix(METRIC));
    Ok(value.context("no metric of the generation")?.parse()?)
}

fn length() -> anyhow::Result<Duration> {
    const VARIABLE: &str = "WHYGATE_CHANGES_SECONDS";

    let seconds = env::var(VARIABLE).unwrap_or_else(|_| "10".into());
    let seconds = seconds.parse().with_context(|| format!("{VARIABLE} is no number: {seconds}"))?;
    Ok(Duration::from_secs(seconds))
}
