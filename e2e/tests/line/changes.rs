//! Changes of manifests while requests come in: when they hold, and that none opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use e2e::cluster::{condition, policy_path};
use e2e::corpus::TokenSpec;
use e2e::{Client, eventually};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::{LONG, SILENCE, Shop, code};

/// Asks for the same path again and again, until it is told to stop.
struct Hammer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Vec<StatusCode>>>,
}

impl Hammer {
    fn start(client: Client, host: &str, path: &'static str) -> Self {
        let (stop, host) = (Arc::new(AtomicBool::new(false)), host.to_owned());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut statuses = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                statuses.push(client.get(&host, path).await?.status);
            }
            Ok(statuses)
        });
        Self { stop, task }
    }

    /// Every status that was answered.
    async fn stop(self) -> anyhow::Result<Vec<StatusCode>> {
        self.stop.store(true, Ordering::Relaxed);
        let statuses = self.task.await??;
        ensure!(!statuses.is_empty(), "nothing was asked");
        Ok(statuses)
    }
}

pub(crate) async fn a_change_is_in_force_on_the_next_request_after_it_is_programmed()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("next", 15).await?;
    let rules = "  require: [{ name: office, ip: { cidrs: [198.18.15.3/32] } }]";
    shop.world.apply(&(shop.policy("office", &[], rules) + &shop.ingress(None)))?;
    shop.programmed("office").await?;
    shop.until(3, "/", 200).await?;

    let mut api = shop.world.cluster.server.api().await?;
    for round in 0..6 {
        let (admitted, refused) = if round % 2 == 0 { (4, 3) } else { (3, 4) };
        let cidr = format!("{}/32", shop.address(admitted));
        let change =
            json!({ "spec": { "require": [{ "name": "office", "ip": { "cidrs": [cidr] } }] } });
        api.patch(&policy_path(shop.namespace, "office"), &change).await?;
        shop.programmed("office").await?;
        assert_eq!(code(&shop.get(refused, "/").await?), (403, "AddressNotAllowed"), "{round}");
        assert_eq!(shop.get(admitted, "/").await?.status, 200, "round {round}");
    }
    Ok(())
}

pub(crate) async fn deleting_or_renaming_the_secret_with_the_keys_never_opens() -> anyhow::Result<()>
{
    let _noise = SILENCE.read().await;
    let shop = Shop::open("keys", 16).await?;
    let rules = "  require: [{ name: signed-in, jwt: { provider: login } }]
  jwtProviders:
  - name: login
    issuer: https://id.example.com
    audiences: [shop-api]
    jwks: { secretRef: { name: keys } }";
    let secret = |name: &str| {
        format!(
            "---
apiVersion: v1
kind: Secret
metadata: {{ name: {name}, namespace: keys, labels: {{ whygate.dev/use: jwks }} }}
stringData: {{ jwks.json: '${{jwks}}' }}
"
        )
    };
    shop.world
        .apply(&(secret("keys") + &shop.policy("login", &[], rules) + &shop.ingress(None)))?;
    shop.programmed("login").await?;
    let token = shop.world.credentials().token(&TokenSpec::default())?;
    let bearer = format!("Bearer {token}");
    let signed_in = async |status: u16| {
        eventually(LONG, &format!("a good token is answered {status}"), async || {
            let answer = shop.get_with(3, "/", ("authorization", &bearer)).await?;
            ensure!(answer.status == status, "{} {}", answer.status, answer.text());
            Ok(code(&answer).1.to_owned())
        })
        .await
    };
    signed_in(200).await?;

    let hammer = Hammer::start(shop.world.client(shop.address(99))?, &shop.host, "/");
    shop.world.kubectl("delete secret keys --namespace keys")?;
    assert_eq!(signed_in(503).await?, "CredentialStoreUnavailable");
    shop.world.apply(&secret("renamed"))?;
    let policy = e2e::eventually(LONG, "the policy's condition names the Secret", async || {
        let policy = shop.programmed("login").await?;
        let resolved = condition(&policy, "ResolvedRefs").context("no such condition")?;
        ensure!(resolved.get("status").and_then(Value::as_str) == Some("False"), "{resolved}");
        Ok(resolved.to_string())
    })
    .await?;
    assert!(policy.contains("keys"), "{policy}");
    assert_eq!(signed_in(503).await?, "CredentialStoreUnavailable");
    shop.world.apply(&secret("keys"))?;
    signed_in(200).await?;
    let statuses = hammer.stop().await?;
    assert!(
        statuses.iter().all(|status| [401, 503].contains(&status.as_u16())),
        "a request without a token was answered {statuses:?}"
    );
    Ok(())
}

pub(crate) async fn deleting_a_policy_that_the_route_requires_closes_it() -> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("required", 17).await?;
    let policy = shop.policy(
        "office",
        &[],
        "  require: [{ name: office, ip: { cidrs: [198.18.17.3/32] } }]",
    );
    shop.world.apply(&(policy.clone() + &shop.ingress(Some("office"))))?;
    shop.until(3, "/", 200).await?;

    let before = shop.upstream.requests();
    let hammer = Hammer::start(shop.world.client(shop.address(99))?, &shop.host, "/");
    shop.world.kubectl("delete accesspolicy office --namespace required")?;
    shop.until(3, "/", 503).await?;
    let passed = shop.upstream.requests() - before;
    assert_eq!(code(&shop.get(99, "/").await?), (503, "PolicyMissing"));
    shop.world.apply(&policy)?;
    shop.until(3, "/", 200).await?;
    let statuses = hammer.stop().await?;
    assert!(
        statuses.iter().all(|status| [403, 503].contains(&status.as_u16())),
        "a request from elsewhere was answered {statuses:?}, {passed} passed"
    );
    Ok(())
}

pub(crate) async fn an_unknown_field_installed_with_kubectl_closes_and_is_named_in_the_condition()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("typo", 18).await?;
    let open = "  require: [{ name: all, ip: { cidrs: [198.18.0.0/15] } }]";
    shop.world.apply(&(shop.policy("office", &[], open) + &shop.ingress(None)))?;
    shop.until(3, "/", 200).await?;

    let typo = format!("{open}\n  denny: [{{ name: bad, ip: {{ cidrs: [198.18.18.3/32] }} }}]");
    shop.world.apply(&shop.policy("office", &[], &typo))?;
    shop.until(3, "/", 503).await?;
    assert_eq!(code(&shop.get(3, "/").await?), (503, "PolicyInvalid"));
    let described = eventually(LONG, "the policy isn't accepted", async || {
        let mut api = shop.world.cluster.server.api().await?;
        let policy = api.get(&policy_path(shop.namespace, "office")).await?;
        let accepted = condition(&policy, "Accepted").context("no such condition")?;
        ensure!(accepted.get("status").and_then(Value::as_str) == Some("False"), "{accepted}");
        Ok(accepted.to_string())
    })
    .await?;
    for part in ["spec.denny", "did you mean `deny`"] {
        assert!(described.contains(part), "`{part}` is missing: {described}");
    }
    shop.world.apply(&shop.policy("office", &[], open))?;
    shop.until(3, "/", 200).await
}
