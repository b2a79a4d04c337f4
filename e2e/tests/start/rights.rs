//! Lists that single namespaces refuse: what needs them is closed there, everything else goes on,
//! and it opens as soon as the right is granted.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use e2e::client::{code, empty, request};
use e2e::corpus::{Credentials, TokenSpec};
use e2e::manifests::{self, Ingress};
use e2e::{Answer, Authority, Client, Cluster, Shop, Whygate, eventually, shop};
use http::Method;
use tokio::sync::OnceCell;

use crate::{LONG, shared};

/// The program's account.
const ACCOUNT: &str = "parts";

/// The namespaces that it watches, and what it may not read there.
const WHOLE: &str = "whole";
const NO_POLICIES: &str = "no-policies";
const NO_SECRETS: &str = "no-secrets";
const NO_SUBSCRIPTIONS: &str = "no-subscriptions";
const NAMESPACES: [(&str, Option<&str>); 4] = [
    (WHOLE, None),
    (NO_POLICIES, Some("accesspolicies")),
    (NO_SECRETS, Some("secrets")),
    (NO_SUBSCRIPTIONS, Some("accesssubscriptions")),
];

const OFFICE: u8 = 3;
const STRANGER: u8 = 99;

/// A program that has all rights in one namespace, and in each of the others all but one. It is
/// ready nevertheless, or the tests don't begin.
struct Parts {
    cluster: &'static Cluster,
    whygate: Whygate,
}

async fn parts() -> anyhow::Result<&'static Parts> {
    static PARTS: OnceCell<Parts> = OnceCell::const_new();
    PARTS.get_or_try_init(Parts::start).await
}

impl Parts {
    async fn start() -> anyhow::Result<Self> {
        let cluster = shared().await?;
        let kubeconfig = cluster.account_without_namespaces(ACCOUNT)?;
        let mut flags = vec!["--infrastructure-cidrs=none".to_owned()];
        for (namespace, lacking) in NAMESPACES {
            cluster.server.apply(&manifests::namespace(namespace))?;
            cluster.grant(ACCOUNT, namespace, lacking)?;
            flags.push(format!("--watch-namespace={namespace}"));
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Ok(Self { cluster, whygate: Whygate::run(&kubeconfig, &flags).await? })
    }

    /// An Event on an object of the namespace names what has to be granted, and so does the log.
    async fn told(
        &self,
        (namespace, kind): (&str, &str),
        resource: &str,
        group: &str,
    ) -> anyhow::Result<()> {
        let parts = ["list", "watch", resource, group, namespace];
        let names = |text: &str| parts.iter().all(|part| text.contains(part));
        eventually(LONG, &format!("a line of the log names {parts:?}"), async || {
            let output = self.whygate.output();
            ensure!(output.lines().any(names), "{output}");
            Ok(())
        })
        .await?;
        let sentence = format!("an Event on the {kind} names {parts:?}");
        eventually(LONG, &sentence, async || {
            let events = self.cluster.server.api().await?.events(namespace, kind).await?;
            ensure!(events.iter().any(|event| names(&event.message)), "{events:?}");
            Ok(())
        })
        .await
    }
}

pub(crate) async fn a_namespace_whose_policies_may_not_be_listed_is_closed_and_no_other()
-> anyhow::Result<()> {
    const CLOSED: (u16, &str) = (503, "PolicyUnenforceable");

    let parts = parts().await?;
    let Parts { cluster, whygate } = parts;
    let whole = Shop::open(&cluster.server, WHOLE, 32).await?;
    let closed = Shop::open(&cluster.server, NO_POLICIES, 33).await?;
    let free = closed.ingress_named("free", "free.no-policies.test", None);
    for shop in [&whole, &closed] {
        cluster.server.apply(&(shop.ingress(None) + &shop.office("web", OFFICE)))?;
    }
    cluster.server.apply(&free)?;

    whole.until(whygate, OFFICE, "/", (200, "")).await?;
    whole.until(whygate, STRANGER, "/", (403, "AddressNotAllowed")).await?;
    closed.until(whygate, OFFICE, "/", CLOSED).await?;
    // Whether a policy names a route that nobody has seen a policy of, nobody knows.
    let stranger = closed.client(whygate, STRANGER)?;
    shop::until(&stranger, "free.no-policies.test", "/", CLOSED).await?;
    let ready = Client::new(whygate.admin()?).get("127.0.0.1", "/readyz").await?;
    ensure!(ready.status == 200, "not ready: {}", ready.text());
    parts.told((NO_POLICIES, "Ingress"), "accesspolicies", "API group whygate.dev").await?;
    ensure!(closed.upstream.requests() == 0, "a request passed a policy that was not read");

    cluster.grant(ACCOUNT, NO_POLICIES, None)?;
    closed.until(whygate, OFFICE, "/", (200, "")).await?;
    closed.until(whygate, STRANGER, "/", (403, "AddressNotAllowed")).await?;
    shop::until(&stranger, "free.no-policies.test", "/", (200, "")).await.map(drop)
}

const KEYS: &str = "---
apiVersion: v1
kind: Secret
metadata: { name: keys, namespace: no-secrets, labels: { whygate.dev/use: jwks } }
stringData: { jwks.json: '${jwks}' }
";

const LOGIN: &str = "  require: [{ name: signed-in, jwt: { provider: login } }]
  jwtProviders:
  - name: login
    issuer: https://id.example.com
    audiences: [shop-api]
    jwks: { secretRef: { name: keys } }";

pub(crate) async fn secrets_that_may_not_be_listed_close_what_needs_them_and_nothing_else()
-> anyhow::Result<()> {
    let parts = parts().await?;
    let Parts { cluster, whygate } = parts;
    let shop = Shop::open(&cluster.server, NO_SECRETS, 34).await?;
    let (authority, credentials) = (Authority::new("parts")?, Credentials::new()?);
    let token = credentials.token(&TokenSpec::default())?;
    let over_tls = Ingress {
        namespace: NO_SECRETS,
        name: "tls",
        host: &shop.host,
        paths: &[("/", "api")],
        requires: None,
        tls: Some("certificate"),
    };
    let (login, free) = ("login.no-secrets.test", "free.no-secrets.test");
    let manifests = [
        authority.server(&[&shop.host])?.secret(NO_SECRETS, "certificate"),
        credentials.fill(KEYS)?,
        over_tls.manifest(),
        shop.ingress_named("web", login, None),
        shop.policy("login", &[], LOGIN),
        shop.ingress_named("free", free, None),
    ];
    cluster.server.apply(&manifests.concat())?;

    let source = shop.address(OFFICE);
    let signed_in = async |expected: (u16, &str)| {
        let header = ("authorization", format!("Bearer {token}"));
        showing(header, &shop.client(whygate, OFFICE)?, login, expected).await
    };
    signed_in((503, "CredentialStoreUnavailable")).await?;
    shop::until(&shop.client(whygate, OFFICE)?, free, "/", (200, "")).await?;
    let passed = shop.upstream.requests();
    let error = tls(whygate, &authority, source, &shop.host).await.err();
    let error = format!("{:#}", error.context("there is a certificate that nobody could read")?);
    ensure!(error.contains("TLS handshake"), "{error}");
    let plain = shop.client(whygate, OFFICE)?.get(&shop.host, "/").await?;
    ensure!(plain.status != 200, "plain HTTP was opened: {}", plain.text());
    ensure!(shop.upstream.requests() == passed, "a request passed");
    parts.told((NO_SECRETS, "Ingress"), "secrets", "the core API group").await?;

    cluster.grant(ACCOUNT, NO_SECRETS, None)?;
    signed_in((200, "")).await?;
    eventually(LONG, "the handshake succeeds", async || {
        let answer = tls(whygate, &authority, source, &shop.host).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

const PLAN: &str = "---
apiVersion: whygate.dev/v1alpha1
kind: AccessPlan
metadata: { name: gold, namespace: no-subscriptions }
spec: { displayName: Gold, approval: Automatic }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: mobile, namespace: no-subscriptions }
spec:
  planRef: { namespace: no-subscriptions, name: gold }
  credentials: [{ apiKey: { id: '${id:mobile}', sha256: '${sha256:mobile}' } }]
";

pub(crate) async fn subscriptions_that_may_not_be_listed_close_what_asks_for_them_and_nothing_else()
-> anyhow::Result<()> {
    let parts = parts().await?;
    let Parts { cluster, whygate } = parts;
    let shop = Shop::open(&cluster.server, NO_SUBSCRIPTIONS, 35).await?;
    let office = "office.no-subscriptions.test";
    let rules = "  require: [{ name: partner, subscription: { plans: [gold] } }]";
    let manifests = [
        Credentials::new()?.fill(PLAN)?,
        shop.ingress(None),
        shop.policy("partners", &[], rules),
        shop.ingress_named("office", office, None),
        shop.office("office", OFFICE),
    ];
    cluster.server.apply(&manifests.concat())?;
    let client = shop.client(whygate, OFFICE)?;
    let partner = async |expected: (u16, &str)| {
        let header = ("x-api-key", Credentials::api_key("mobile"));
        showing(header, &client, &shop.host, expected).await
    };
    shop::until(&client, office, "/", (200, "")).await?;
    let stranger = shop.client(whygate, STRANGER)?;
    shop::until(&stranger, office, "/", (403, "AddressNotAllowed")).await?;
    partner((503, "PolicyUnenforceable")).await?;
    let policy = (NO_SUBSCRIPTIONS, "AccessPolicy");
    parts.told(policy, "accesssubscriptions", "API group whygate.dev").await?;

    cluster.grant(ACCOUNT, NO_SUBSCRIPTIONS, None)?;
    partner((200, "")).await?;
    shop.until(whygate, OFFICE, "/", (401, "KeyMissing")).await.map(drop)
}

pub(crate) async fn a_config_map_that_may_not_be_read_is_told_and_counts_once_it_may()
-> anyhow::Result<()> {
    const MAPS: &str = "maps";

    let cluster = shared().await?;
    let kubeconfig = cluster.account_without_namespaces(MAPS)?;
    cluster.server.apply(&manifests::namespace(MAPS))?;
    cluster.grant(MAPS, MAPS, Some("configmaps"))?;
    let flags =
        ["--infrastructure-cidrs=none", "--watch-namespace=maps", "--config-map-namespaces=maps"];
    let whygate = Whygate::run(&kubeconfig, &flags).await?;
    let shop = Shop::open(&cluster.server, MAPS, 36).await?;
    let trusting = "annotations: { whygate.dev/upstream-protocol: https, whygate.dev/upstream-ca: configmap/trusted }";
    cluster.server.apply(&shop.ingress(None).replace("annotations: {  }", trusting))?;
    shop.until(&whygate, OFFICE, "/", (503, "RouteInvalid")).await?;
    whygate.line(LONG, "configmaps in use in namespace `maps`").await?;
    let told = "ConfigMap maps/trusted: it may not be read";
    eventually(LONG, "an Event on the Ingress tells of the ConfigMap", async || {
        let events = cluster.server.api().await?.events(MAPS, "Ingress").await?;
        ensure!(events.iter().any(|event| event.message.contains(told)), "{events:?}");
        Ok(())
    })
    .await?;

    cluster.grant(MAPS, MAPS, None)?;
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "trusted", "namespace": MAPS, "labels": { "whygate.dev/use": "ca" } },
        "data": { "ca.crt": Authority::new("maps")?.pem() },
    });
    cluster.server.apply(&format!("{map}\n"))?;
    // The upstream speaks no TLS: nothing is forwarded to it, but now it is asked.
    shop.until(&whygate, OFFICE, "/", (502, "UpstreamConnectFailed")).await?;
    ensure!(shop.upstream.requests() == 0, "a request passed without trust");
    Ok(())
}

/// Waits until a GET with this header is answered with this status and code.
async fn showing(
    (name, value): (&str, String),
    client: &Client,
    host: &str,
    expected: (u16, &str),
) -> anyhow::Result<()> {
    eventually(LONG, &format!("{host} answers {expected:?} to a {name}"), async || {
        let request = request(Method::GET, host, "/").header(name, &value);
        let answer = client.send(request.body(empty())?).await?;
        ensure!(code(&answer) == expected, "{:?} {}", code(&answer), answer.text());
        Ok(())
    })
    .await
}

async fn tls(
    whygate: &Whygate,
    authority: &Authority,
    source: IpAddr,
    host: &str,
) -> anyhow::Result<Answer> {
    Client::new(whygate.https()?).trusting(authority)?.from(source).get(host, "/").await
}
