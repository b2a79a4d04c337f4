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
const NAMESPACES: [(&str, Option<&str>); 3] =
    [(WHOLE, None), (NO_POLICIES, Some("accesspolicies")), (NO_SECRETS, Some("secrets"))];

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

    /// The log, and an Event on an Ingress of the namespace, name what has to be granted.
    async fn told(&self, namespace: &str, resource: &str, group: &str) -> anyhow::Result<()> {
        let parts = ["list", "watch", resource, group, namespace];
        let names = |text: &str| parts.iter().all(|part| text.contains(part));
        let output = self.whygate.output();
        ensure!(output.lines().any(names), "no line of the log names {parts:?}:\n{output}");
        let sentence = format!("an Event on an Ingress names {parts:?}");
        eventually(LONG, &sentence, async || {
            let events = self.cluster.server.api().await?.events(namespace, "Ingress").await?;
            ensure!(events.iter().any(|event| names(&event.message)), "{events:?}");
            Ok(())
        })
        .await
    }
}

pub(crate) async fn a_namespace_whose_policies_may_not_be_listed_is_closed_and_no_other()
-> anyhow::Result<()> {
    const CLOSED: (u16, &str) = (503, "PolicyUnenforceable");

    let Parts { cluster, whygate } = parts().await?;
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
    parts().await?.told(NO_POLICIES, "accesspolicies", "whygate.dev").await?;
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
        eventually(LONG, &format!("a good token is answered {expected:?}"), async || {
            let answer = bearing(&token, shop.client(whygate, OFFICE)?, login).await?;
            ensure!(code(&answer) == expected, "{:?} {}", code(&answer), answer.text());
            Ok(())
        })
        .await
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
    parts.told(NO_SECRETS, "secrets", "the core API group").await?;

    cluster.grant(ACCOUNT, NO_SECRETS, None)?;
    signed_in((200, "")).await?;
    eventually(LONG, "the handshake succeeds", async || {
        let answer = tls(whygate, &authority, source, &shop.host).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

async fn bearing(token: &str, client: Client, host: &str) -> anyhow::Result<Answer> {
    let request =
        request(Method::GET, host, "/").header("authorization", format!("Bearer {token}"));
    client.send(request.body(empty())?).await
}

async fn tls(
    whygate: &Whygate,
    authority: &Authority,
    source: IpAddr,
    host: &str,
) -> anyhow::Result<Answer> {
    Client::new(whygate.https()?).trusting(authority)?.from(source).get(host, "/").await
}
