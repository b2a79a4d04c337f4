//! Starting on a real API server: nothing is open before everything is known, what is missing is
//! said in a sentence, and no moment of a start lets a request through that its policy forbids.
#![expect(clippy::panic, reason = "the first surprise ends the test")]

mod rights;
mod telling;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use e2e::manifests;
use e2e::upstream::Echo;
use e2e::{
    ApiServer, Client, Cluster, FaultProxy, Shop, Whygate, address, cluster, eventually, say,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

use rights::{
    a_config_map_that_may_not_be_read_is_told_and_counts_once_it_may,
    a_namespace_whose_policies_may_not_be_listed_is_closed_and_no_other,
    secrets_that_may_not_be_listed_close_what_needs_them_and_nothing_else,
    subscriptions_that_may_not_be_listed_close_what_asks_for_them_and_nothing_else,
};
use telling::a_right_to_tell_that_is_missing_is_named_with_its_verb_and_stops_nothing;

e2e::suite!(
    needs: [Program, Kubernetes],
    tests: [
        nothing_is_bound_before_everything_was_listed_once,
        unreachable_api_server_is_named_in_one_sentence,
        missing_definition_is_named_and_awaited,
        older_definition_is_named_with_its_number_and_awaited,
        class_of_another_controller_is_named_and_keeps_it_unready,
        missing_right_is_named_with_its_verb_and_keeps_it_unready,
        port_in_use_ends_it_with_one_sentence_that_names_the_flag,
        killed_at_any_moment_of_its_start_it_never_opens_a_route,
        a_namespace_whose_policies_may_not_be_listed_is_closed_and_no_other,
        secrets_that_may_not_be_listed_close_what_needs_them_and_nothing_else,
        subscriptions_that_may_not_be_listed_close_what_asks_for_them_and_nothing_else,
        a_config_map_that_may_not_be_read_is_told_and_counts_once_it_may,
        a_right_to_tell_that_is_missing_is_named_with_its_verb_and_stops_nothing,
    ],
);

const LONG: Duration = Duration::from_secs(30);

/// So long is looked whether something happens that must not.
const WATCH: Duration = Duration::from_secs(3);

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

async fn shared() -> anyhow::Result<&'static Cluster> {
    CLUSTER.get_or_try_init(Cluster::start).await
}

/// Where a program listens whose ready file doesn't tell because it isn't ready: the tests' network
/// is their own, and each test has an address of its own in it.
struct Place {
    http: SocketAddr,
    admin: SocketAddr,
    flags: Vec<String>,
}

impl Place {
    fn new(fourth: u8) -> Self {
        let at = |port| SocketAddr::from((address(30, fourth), port));
        let (http, admin) = (at(8080), at(9090));
        let flags = vec![
            format!("--http-listen={http}"),
            format!("--admin-listen={admin}"),
            "--infrastructure-cidrs=none".into(),
            "--shutdown-delay-seconds=0".into(),
        ];
        Self { http, admin, flags }
    }

    fn begin(&self, kubeconfig: &Path, more: &[&str]) -> anyhow::Result<Whygate> {
        let mut flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        flags.extend(more);
        Whygate::begin_run(kubeconfig, &flags)
    }

    /// Status and text of `/readyz`.
    async fn readiness(&self) -> anyhow::Result<(u16, String)> {
        let answer = Client::new(self.admin).get("127.0.0.1", "/readyz").await?;
        Ok((answer.status.as_u16(), answer.text()))
    }

    /// Waits until the admin port says, or the program's last words say, all of `parts`.
    ///
    /// A program that can't start may end with status 1 or stay unready; either way nothing is open.
    async fn refuses(&self, whygate: &mut Whygate, parts: &[&str]) -> anyhow::Result<String> {
        let sentence = format!("the program says {parts:?}");
        let said = eventually(LONG, &sentence, async || {
            ensure!(whygate.try_ready().is_err(), "it got ready");
            let said = match self.readiness().await {
                Ok((503, text)) => text,
                Ok((status, text)) => bail!("readiness {status}: {text}"),
                Err(_) => whygate.output(),
            };
            let told = said.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            told.map(str::to_owned).with_context(|| format!("it says: {said}"))
        })
        .await?;
        self.ensure_closed(whygate).await?;
        Ok(said)
    }

    async fn ensure_closed(&self, whygate: &Whygate) -> anyhow::Result<()> {
        ensure!(TcpStream::connect(self.http).await.is_err(), "the data port is open");
        ensure!(whygate.try_ready().is_err(), "there is a ready file");
        Ok(())
    }
}

async fn nothing_is_bound_before_everything_was_listed_once() -> anyhow::Result<()> {
    let cluster = shared().await?;
    let place = Place::new(1);
    let mut proxy = FaultProxy::start("127.0.0.1:0".parse()?, cluster.server.address())?;
    let kubeconfig = cluster.account_without("listing", None, proxy.address())?;
    proxy.black_hole().await?;
    let mut whygate = place.begin(&kubeconfig, &[])?;

    eventually(LONG, "it asks the API server", async || {
        ensure!(proxy.accepted() > 0, "no connection");
        Ok(())
    })
    .await?;
    let begun = Instant::now();
    while begun.elapsed() < WATCH {
        place.ensure_closed(&whygate).await?;
        // The admin port may answer already; what it says then is no.
        if let Ok((status, text)) = place.readiness().await {
            assert_eq!(status, 503, "{text}");
        }
        sleep(Duration::from_millis(50)).await;
    }

    proxy.pass().await?;
    whygate.wait_ready().await?;
    assert_eq!(place.readiness().await?.0, 200);
    TcpStream::connect(place.http).await?;
    Ok(())
}

async fn unreachable_api_server_is_named_in_one_sentence() -> anyhow::Result<()> {
    let cluster = shared().await?;
    let place = Place::new(2);
    let mut proxy = FaultProxy::start("127.0.0.1:0".parse()?, cluster.server.address())?;
    let kubeconfig = cluster.account_without("unreachable", None, proxy.address())?;
    proxy.refuse().await?;
    let mut whygate = place.begin(&kubeconfig, &[])?;
    let address = proxy.address().to_string();
    let said = place.refuses(&mut whygate, &["API server", &address]).await?;
    say(&format!("unreachable: {said}"));
    Ok(())
}

async fn missing_definition_is_named_and_awaited() -> anyhow::Result<()> {
    let server = ApiServer::start().await?;
    for file in fs::read_dir(cluster::schemas()?)? {
        let path = file?.path();
        if !path.ends_with("accessplans.yaml") {
            server.apply(&fs::read_to_string(path)?)?;
        }
    }
    let place = Place::new(3);
    let mut whygate = place.begin(&server.kubeconfig(), &[])?;
    let said = place.refuses(&mut whygate, &["accessplans.whygate.dev"]).await?;
    say(&format!("missing definition: {said}"));
    if whygate.wait(Duration::from_millis(200)).await.is_err() {
        server.apply_folder(&cluster::schemas()?)?;
        whygate.wait_ready().await?;
        TcpStream::connect(place.http).await?;
    }
    Ok(())
}

async fn older_definition_is_named_with_its_number_and_awaited() -> anyhow::Result<()> {
    const NUMBER: &str = "whygate.dev/schema: \"4\"";

    let server = ApiServer::start().await?;
    let plans = fs::read_to_string(cluster::schemas()?.join("accessplans.yaml"))?;
    ensure!(plans.contains(NUMBER), "the number of the schema is another one by now");
    server.apply_folder(&cluster::schemas()?)?;
    for (fourth, older, said) in [
        (6, "whygate.dev/schema: \"0\"", "has schema 0, and this program needs 4"),
        (7, "whygate.dev/other: \"4\"", "has no schema number, and this program needs 4"),
    ] {
        server.apply(&plans.replace(NUMBER, older))?;
        let place = Place::new(fourth);
        let mut whygate = place.begin(&server.kubeconfig(), &[])?;
        let parts = ["`accessplans.whygate.dev`", said, "apply the definitions of this version"];
        let said = place.refuses(&mut whygate, &parts).await?;
        say(&format!("older definition: {said}"));
        server.apply(&plans)?;
        whygate.wait_ready().await?;
    }
    Ok(())
}

async fn class_of_another_controller_is_named_and_keeps_it_unready() -> anyhow::Result<()> {
    let cluster = shared().await?;
    let class = |name: &str, controller: &str| {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{ name: {name} }}
spec: {{ controller: {controller} }}
"
        )
    };
    cluster.server.apply(&class("taken", "example.com/other"))?;
    let place = Place::new(8);
    let flags = ["--ingress-class=taken", "--controller-name=example.com/ours"];
    let mut whygate = place.begin(&cluster.account("class")?, &flags)?;
    let parts = ["IngressClass taken", "example.com/other", "`--ingress-class`"];
    let said = place.refuses(&mut whygate, &parts).await?;
    say(&format!("class of another controller: {said}"));
    // A class that names our controller is one to serve, whatever it is called.
    cluster.server.apply(&class("ours", "example.com/ours"))?;
    whygate.wait_ready().await?;
    Ok(())
}

/// What is watched in every namespace.
const WATCHED: [&str; 9] = [
    "ingresses",
    "ingressclasses",
    "namespaces",
    "services",
    "secrets",
    "endpointslices",
    "accesspolicies",
    "accessplans",
    "accesssubscriptions",
];

async fn missing_right_is_named_with_its_verb_and_keeps_it_unready() -> anyhow::Result<()> {
    let cluster = shared().await?;
    let watched = WATCHED.iter().flat_map(|&resource| [(resource, "list"), (resource, "watch")]);
    let rights = watched.chain([("customresourcedefinitions", "get")]);
    for (number, (resource, verb)) in (0_u8..).zip(rights) {
        let place = Place::new(10 + number);
        let name = format!("no-{verb}-{resource}");
        let lacking = Some((resource, verb));
        let kubeconfig = cluster.account_without(&name, lacking, cluster.server.address())?;
        let mut whygate = place.begin(&kubeconfig, &[])?;
        let right = match verb {
            "get" => "the right to get the definition".to_owned(),
            _ => format!("the right to {verb} {resource}"),
        };
        let said = place.refuses(&mut whygate, &[&right, resource, "is missing; grant"]).await?;
        say(&format!("missing right: {said}"));
        if number == 0 && whygate.wait(Duration::from_millis(200)).await.is_err() {
            // It heals without a restart.
            cluster.account_without(&name, None, cluster.server.address())?;
            whygate.wait_ready().await?;
        }
    }
    Ok(())
}

async fn port_in_use_ends_it_with_one_sentence_that_names_the_flag() -> anyhow::Result<()> {
    let cluster = shared().await?;
    let kubeconfig = cluster.account("port")?;
    let place = Place::new(4);
    let _taken = TcpListener::bind(place.http).await?;
    let mut whygate = place.begin(&kubeconfig, &["--log-format=text"])?;
    let status = whygate.wait(LONG).await?;
    assert_eq!(status.code(), Some(1));
    let output = whygate.output();
    let http = place.http.to_string();
    let said = output.lines().find(|line| line.contains("--http-listen") && line.contains(&http));
    let said = said.unwrap_or_else(|| panic!("{output}"));
    assert_eq!(said.matches(&http).count(), 1, "said more than once: {said}");
    assert!(!output.contains("panicked"), "{output}");
    say(&format!("port in use: {said}"));
    Ok(())
}

/// How often the program is killed while it starts.
const STARTS: usize = 20;

async fn killed_at_any_moment_of_its_start_it_never_opens_a_route() -> anyhow::Result<()> {
    const HOST: &str = "start.test";
    let cluster = shared().await?;
    let kubeconfig = cluster.account("killed")?;
    let shop = Shop::open(&cluster.server, "start", 31).await?;
    let rules = "  require: [{ name: office, ip: { cidrs: [198.18.31.3/32] } }]";
    // One route is closed by its annotation, the other by the posture that a flag sets.
    let manifests = [
        shop.ingress_named("required", HOST, Some("office")),
        shop.ingress_named("posture", "posture.test", None),
        shop.office("required", 3),
        manifests::policy(shop.namespace, "second", "posture", &[], rules),
    ];
    cluster.server.apply(&manifests.concat())?;

    let place = Place::new(5);
    let stranger = Hammer::start(place.http, shop.address(99), &[HOST, "posture.test"]);
    let begun = Instant::now();
    let mut whygate = place.begin(&kubeconfig, &["--default-posture=closed"])?;
    whygate.wait_ready().await?;
    let start = begun.elapsed();
    whygate.kill();
    for number in 0..STARTS {
        // Spread over the start and a little beyond, at moments that no clock favours.
        let share = (f64::from(u32::try_from(number)?) + random()) / 20.0;
        let moment = start.mul_f64(share * 1.3);
        let mut whygate = place.begin(&kubeconfig, &["--default-posture=closed"])?;
        sleep(moment).await;
        whygate.kill();
    }
    let mut whygate = place.begin(&kubeconfig, &["--default-posture=closed"])?;
    whygate.wait_ready().await?;
    for host in [HOST, "posture.test"] {
        eventually(LONG, "the office passes", async || {
            let answer = Client::new(place.http).from(shop.address(3)).get(host, "/").await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            answer.json::<Echo>()
        })
        .await?;
    }
    let (answered, refused) = stranger.stop().await?;
    assert!(refused > 0, "the stranger was never answered");
    assert_eq!(answered, refused, "a request passed that its policy forbids");
    say(&format!(
        "killed {STARTS} times within {:?}, a start takes {start:?}: {refused} refusals, no request passed",
        start.mul_f64(1.3)
    ));
    Ok(())
}

/// A number from 0 to 1.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};

    let bits = u32::try_from(RandomState::new().hash_one(0) & u64::from(u32::MAX));
    f64::from(bits.unwrap_or_default()) / f64::from(u32::MAX)
}

/// A client that asks without a pause, whoever listens or doesn't.
struct Hammer {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Hammer {
    fn start(target: SocketAddr, source: IpAddr, hosts: &'static [&'static str]) -> Self {
        let (stop, answered, refused) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let (stopped, answers, refusals) =
            (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&refused));
        let task = tokio::spawn(async move {
            let client = Client::new(target).from(source);
            while !stopped.load(Ordering::Relaxed) {
                for host in hosts {
                    // Nobody listens between two starts, and a kill cuts an answer off.
                    let Ok(Ok(answer)) = timeout(LONG, client.get(host, "/")).await else {
                        sleep(Duration::from_millis(1)).await;
                        continue;
                    };
                    answers.fetch_add(1, Ordering::Relaxed);
                    if matches!(answer.status.as_u16(), 403 | 503) {
                        refusals.fetch_add(1, Ordering::Relaxed);
                    } else {
                        say(&format!("{host} answered {}: {}", answer.status, answer.text()));
                    }
                }
            }
        });
        Self { stop, answered, refused, task }
    }

    /// How many answers there were, and how many of them were refusals.
    async fn stop(self) -> anyhow::Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        Ok((self.answered.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed)))
    }
}
