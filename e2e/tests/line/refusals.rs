//! Refusals as `kubectl describe` shows them.

use anyhow::{Context as _, bail, ensure};
use e2e::client::{empty, request};
use e2e::corpus::{Credentials, TokenSpec};
use e2e::manifests::{Ingress, backend};
use e2e::{Client, Upstream, eventually, say};
use http::{Method, Request};
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::world::{LONG, SILENCE, Shop, code, upstream_of};

const PLAN: &str = "
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPlan
metadata: { name: gold, namespace: kinds }
spec: { displayName: Gold, approval: Automatic }
---
apiVersion: whygate.dev/v1alpha1
kind: AccessSubscription
metadata: { name: mobile, namespace: kinds }
spec:
  planRef: { namespace: kinds, name: gold }
  credentials: [{ apiKey: { id: '${id:mobile}', sha256: '${sha256:mobile}' } }]
";

const OFFICE: &str = "  require:
  - name: office-or-vpn
    ip: { cidrs: [198.18.10.0/28, 192.0.2.0/25] }";

const LOGIN: &str = "  require:
  - name: signed-in
    jwt: { provider: login, scopes: { all: [orders.read] } }
  jwtProviders:
  - name: login
    issuer: https://id.example.com
    audiences: [shop-api]
    jwks: { inline: '${jwks}' }";

const PARTNERS: &str = "  require:
  - name: partner
    subscription: { plans: [gold] }";

/// A kind of refusal: how it is provoked, how often, and what its Event must say.
struct Kind {
    policy: &'static str,
    path: &'static str,
    header: Option<(&'static str, String)>,
    times: usize,
    status: u16,
    code: &'static str,
    /// Rule, fact, remedy.
    says: [&'static str; 3],
}

fn kinds(token: &str) -> [Kind; 4] {
    let kind = |policy, path, times, status, code, says| Kind {
        policy,
        path,
        header: None,
        times,
        status,
        code,
        says,
    };
    let scope = Kind {
        header: Some(("authorization", format!("Bearer {token}"))),
        ..kind(
            "login",
            "/login",
            5,
            403,
            "TokenScopeMissing",
            ["rule signed-in", "profile", "orders.read"],
        )
    };
    [
        kind(
            "office",
            "/office",
            41,
            403,
            "AddressNotAllowed",
            [
                "rule office-or-vpn",
                "198.18.10.99",
                "Add 198.18.10.99/32 to spec.require[0].ip.cidrs",
            ],
        ),
        kind(
            "login",
            "/login",
            17,
            401,
            "TokenMissing",
            ["rule signed-in", "no bearer token", "authorization"],
        ),
        scope,
        kind(
            "partners",
            "/partners",
            9,
            401,
            "KeyMissing",
            ["rule partner", "no API key in x-api-key", "x-api-key"],
        ),
    ]
}

pub(crate) async fn refusals_of_each_kind_stand_in_describe_with_their_exact_count()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("kinds", 10).await?;
    let pages = Upstream::start((shop.address(2), 0).into(), "pages").await?;
    let client = open_kinds(&shop, &pages).await?;

    // Each kind of credential admits its owner, to the Service of the path.
    let token = shop.world.credentials().token(&token("orders.read"))?;
    let key = Credentials::api_key("mobile");
    for (path, name, value, upstream) in [
        ("/office", "accept", "*/*".to_owned(), "api"),
        ("/login", "authorization", format!("Bearer {token}"), "api"),
        ("/partners", "x-api-key", key, "pages"),
    ] {
        let request = ask(&shop, path).header(name, value).body(empty())?;
        assert_eq!(upstream_of(&client.send(request).await?)?, upstream, "{path}");
    }

    let stranger = client.from(shop.address(99));
    let kinds = kinds(&shop.world.credentials().token(&self::token("profile"))?);
    let before = shop.upstream.requests() + pages.requests();
    for kind in &kinds {
        refuse(&shop, &stranger, kind).await?;
    }
    assert_eq!(shop.upstream.requests() + pages.requests(), before, "a refusal got through");
    for kind in &kinds {
        for object in [format!("accesspolicy {}", kind.policy), "ingress web".into()] {
            told(&shop, &object, kind).await?;
        }
    }
    Ok(())
}

/// Applies the Ingress with TLS, its policies, plan and subscription. The client is at an address
/// that `office` admits.
async fn open_kinds(shop: &Shop, pages: &Upstream) -> anyhow::Result<Client> {
    let certificate = shop.world.authority.server(&[&shop.host])?;
    let ingress = Ingress {
        namespace: shop.namespace,
        name: "web",
        host: &shop.host,
        paths: &[("/office", "api"), ("/login", "api"), ("/", "pages")],
        requires: None,
        tls: Some("certificate"),
    };
    let manifests = [
        backend(shop.namespace, "pages", pages.address()),
        certificate.secret(shop.namespace, "certificate"),
        shop.policy("office", &["/office"], OFFICE),
        shop.policy("login", &["/login"], LOGIN),
        shop.policy("partners", &["/partners"], PARTNERS),
        PLAN.into(),
        ingress.manifest(),
    ];
    shop.world.apply(&manifests.concat())?;
    for policy in ["office", "login", "partners"] {
        shop.programmed(policy).await?;
    }
    let client = Client::new(shop.world.whygate.https()?)
        .trusting(&shop.world.authority)?
        .from(shop.address(3));
    eventually(LONG, "the Ingress is served over TLS", async || {
        upstream_of(&client.get(&shop.host, "/free").await?)
    })
    .await?;
    Ok(client)
}

fn token(scope: &str) -> TokenSpec {
    let claims = [("scope".to_owned(), scope.into())].into_iter().collect();
    TokenSpec { claims, ..TokenSpec::default() }
}

fn ask(shop: &Shop, path: &str) -> http::request::Builder {
    request(Method::GET, &shop.host, path)
}

async fn refuse(shop: &Shop, stranger: &Client, kind: &Kind) -> anyhow::Result<()> {
    let mut connection = stranger.connect(&shop.host).await?;
    for _ in 0..kind.times {
        let mut request: Request<_> = ask(shop, kind.path).body(empty())?;
        if let Some((name, value)) = &kind.header {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let answer = connection.send(request).await?;
        ensure!(code(&answer) == (kind.status, kind.code), "{:?} {}", code(&answer), answer.text());
    }
    Ok(())
}

/// The object's description has one line for this kind that says everything, with its exact count.
async fn told(shop: &Shop, object: &str, kind: &Kind) -> anyhow::Result<()> {
    let command = format!("describe {object} --namespace {}", shop.namespace);
    let count = format!("(x{} over ", kind.times);
    let policy = format!("policy {}/{}, {}", shop.namespace, kind.policy, kind.says[0]);
    let line = eventually(LONG, &format!("`{command}` tells of {}", kind.code), async || {
        let text = shop.world.kubectl(&command)?;
        let mut lines = text
            .lines()
            .filter(|line| line.contains(&format!(" {} ", kind.code)) && line.contains(&policy));
        match (lines.next(), lines.next()) {
            (Some(line), None) if line.contains(&count) => Ok(line.to_owned()),
            (Some(_), Some(_)) => bail!("several lines for one kind:\n{text}"),
            _ => bail!("no line with {count}:\n{text}"),
        }
    })
    .await?;
    for part in ["Warning ", kind.says[1], kind.says[2], "; last id "] {
        assert!(line.contains(part), "`{part}` is missing: {line}");
    }
    Ok(())
}

pub(crate) async fn the_first_refusal_of_a_new_group_is_an_event_within_a_second()
-> anyhow::Result<()> {
    /// A second by promise, and as much again for two cores that everything here shares.
    const LIMIT: Duration = Duration::from_secs(2);
    const GROUPS: usize = 6;

    let _noise = SILENCE.read().await;
    let shop = Shop::open("first", 11).await?;
    let paths: Vec<String> = (0..GROUPS).map(|group| format!("/group-{group}")).collect();
    let routes: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "api")).collect();
    let ingress = Ingress {
        namespace: shop.namespace,
        name: "web",
        host: &shop.host,
        paths: &routes,
        requires: None,
        tls: None,
    };
    let policy = shop.policy(
        "office",
        &[],
        "  require: [{ name: office, ip: { cidrs: [198.18.11.3/32] } }]",
    );
    shop.world.apply(&(policy + &ingress.manifest()))?;
    shop.programmed("office").await?;
    shop.until(3, "/group-0", (200, "")).await?;

    let mut api = shop.world.cluster.server.api().await?;
    let mut slowest = Duration::ZERO;
    for path in &paths {
        assert_eq!(code(&shop.get(99, path).await?), (403, "AddressNotAllowed"));
        let refused = Instant::now();
        for kind in ["Ingress", "AccessPolicy"] {
            loop {
                let events = api.events(shop.namespace, kind).await?;
                if events.iter().any(|event| event.message.contains(path)) {
                    break;
                }
                ensure!(
                    refused.elapsed() < LIMIT,
                    "no Event on the {kind} about {path}: {events:?}"
                );
                sleep(Duration::from_millis(10)).await;
            }
        }
        slowest = slowest.max(refused.elapsed());
    }
    say(&format!("first Event on both objects: at most {slowest:?} after the answer"));
    api.events(shop.namespace, "Ingress").await?.first().context("no Event").map(drop)
}
