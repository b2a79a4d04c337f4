//! A flood of refusals: it costs few writes, is counted exactly, and fills no memory.
//!
//! 100,000 refusals of 5 routes. `WHYGATE_FLOOD_REFUSALS` changes the first number,
//! `WHYGATE_FLOOD_ROUTES` the second (30 routes want more writes than a minute may have), and
//! `WHYGATE_FLOOD_SECONDS` sets a limit on how long sending may take: set it only with
//! `WHYGATE_BINARY`, because a program built for tests is many times slower.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::audit::{Write, most_within};
use e2e::burst::{Statuses, burst};
use e2e::manifests;
use e2e::shop::until;
use e2e::{Cluster, Shop, Whygate, address, eventually, say};
use tokio::task::JoinSet;
use tokio::time::Instant;

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [a_flood_of_refusals_costs_few_writes_is_counted_exactly_and_fills_no_memory],
);

/// Most writes within any minute, as `--event-writes-per-minute` has it by default.
const WRITES_PER_MINUTE: usize = 60;

/// How many connections send at a time.
const CONNECTIONS: usize = 10;

/// How many refusals come before memory is looked at for the first time.
const WARM_UP: usize = 10_000;

const ACCOUNT: &str = "flood";

/// The last octet of the one address that the policies admit.
const ADMITTED: u8 = 3;

async fn a_flood_of_refusals_costs_few_writes_is_counted_exactly_and_fills_no_memory()
-> anyhow::Result<()> {
    let (refusals, routes) = (number("REFUSALS", 100_000)?, number("ROUTES", 5)?);
    let cluster = Cluster::start().await?;
    let shop = Shop::open(&cluster.server, "flood", 50).await?;
    cluster.server.apply(&manifests(routes, &shop))?;
    let kubeconfig = cluster.account(ACCOUNT)?;
    let flags = ["--infrastructure-cidrs=none", "--denial-window-seconds=1"];
    let whygate = Whygate::run(&kubeconfig, &flags).await?;
    for route in 0..routes {
        cluster.programmed(shop.namespace, &format!("policy-{route}")).await?;
    }
    until(&shop.client(&whygate, ADMITTED)?, "shop-0.test", "/", (200, "")).await?;

    flood(&whygate, routes, WARM_UP).await?;
    let before = resident(&whygate)?;
    let begun = Instant::now();
    flood(&whygate, routes, refusals).await?;
    let sending = begun.elapsed();
    let passed = shop.upstream.requests();
    ensure!(passed == 1, "{} refused requests got through", passed - 1);

    let total = u64::try_from(refusals + WARM_UP)?;
    exact(&cluster, shop.namespace, total, Duration::from_secs(60 + 4 * u64::try_from(routes)?))
        .await?;
    let after = resident(&whygate)?;
    let writes = own(cluster.server.writes()?);
    let most = most_within(&writes, Duration::from_mins(1));
    say(&format!(
        "{refusals} refusals of {routes} routes in {sending:?}; exact after {:?}; {} writes, at most \
         {most} in a minute; VmRSS {before} kB before, {after} kB after",
        begun.elapsed(),
        writes.len(),
    ));
    assert!(most <= WRITES_PER_MINUTE, "{most} writes in a minute: {writes:?}");
    assert!(after <= before + before / 5, "memory grew from {before} kB to {after} kB");
    summed(&cluster, shop.namespace, total).await?;
    if let Ok(limit) = number("SECONDS", 0)
        && limit > 0
    {
        assert!(sending.as_secs_f64() <= f64::from(u32::try_from(limit)?), "{sending:?}");
    }
    Ok(())
}

/// So many Ingresses, each with its policy.
fn manifests(routes: usize, shop: &Shop) -> String {
    let cidr = format!("{}/32", shop.address(ADMITTED));
    let rules = format!("  require: [{{ name: office, ip: {{ cidrs: [{cidr}] }} }}]");
    let one = |route: usize| {
        let (name, host) = (format!("web-{route}"), format!("shop-{route}.test"));
        let policy = format!("policy-{route}");
        shop.ingress_named(&name, &host, None)
            + &manifests::policy(shop.namespace, &policy, &name, &[], &rules)
    };
    (0..routes).map(one).collect()
}

/// Sends so many requests that are refused, from as many addresses as there are connections, to
/// all routes.
async fn flood(whygate: &Whygate, routes: usize, refusals: usize) -> anyhow::Result<()> {
    let http = whygate.http()?;
    let mut senders = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let share = refusals / CONNECTIONS + usize::from(connection < refusals % CONNECTIONS);
        let source = IpAddr::from(address(52, u8::try_from(connection + 1)?));
        senders.spawn(async move {
            let mut statuses = Statuses::new();
            for route in 0..routes {
                let host = format!("shop-{route}.test");
                let part = share / routes + usize::from(route < share % routes);
                let path = format!("/orders/{connection}?page={route}");
                for (status, count) in burst(http, source, (&host, &path), part).await? {
                    *statuses.entry(status).or_default() += count;
                }
            }
            anyhow::Ok(statuses)
        });
    }
    let mut statuses = Statuses::new();
    while let Some(sent) = senders.join_next().await {
        for (status, count) in sent?? {
            *statuses.entry(status).or_default() += count;
        }
    }
    ensure!(statuses == Statuses::from([(403, refusals)]), "{statuses:?}");
    Ok(())
}

/// Waits until the Events on the Ingresses, and those on the policies, count every refusal.
async fn exact(
    cluster: &Cluster,
    namespace: &str,
    total: u64,
    limit: Duration,
) -> anyhow::Result<()> {
    let mut api = cluster.server.api().await?;
    eventually(limit, "the Events count every refusal", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for kind in ["Ingress", "AccessPolicy"] {
            let events = api.events(namespace, kind).await?;
            let counts: Vec<u64> = events.iter().map(|event| event.count).collect();
            let sum: u64 = counts.iter().sum();
            ensure!(sum == total, "{sum} of {total} on the {kind}: {counts:?}");
        }
        Ok(())
    })
    .await
}

/// Waits until the statuses of the policies count every refusal.
async fn summed(cluster: &Cluster, namespace: &str, total: u64) -> anyhow::Result<()> {
    let counts = "jsonpath={.items[*].status.denials.lastHour}";
    let get = ["get", "accesspolicies", "--namespace", namespace, "-o", counts];
    eventually(Duration::from_mins(3), "the statuses count every refusal", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let counts = cluster.server.kubectl(&get)?.success()?;
        let sum: u64 = counts.split_whitespace().map(str::parse::<u64>).sum::<Result<_, _>>()?;
        ensure!(sum == total, "{sum} of {total}: {counts}");
        Ok(())
    })
    .await
}

/// The writes of the program about Events.
fn own(writes: Vec<Write>) -> Vec<Write> {
    let user = Cluster::user(ACCOUNT);
    writes.into_iter().filter(|write| write.user == user && write.resource == "events").collect()
}

/// Resident memory in kB.
fn resident(whygate: &Whygate) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", whygate.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(number.parse()?)
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    let variable = format!("WHYGATE_FLOOD_{name}");
    match env::var(&variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is no number: {text}")),
        Err(_) => Ok(default),
    }
}
