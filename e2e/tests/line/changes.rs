//! Changes of manifests while requests come in: when they hold, and that none opens.

use anyhow::{Context as _, ensure};
use e2e::cluster::{condition, policy_path};
use e2e::corpus::TokenSpec;
use e2e::{Hammer, eventually};
use serde_json::{Value, json};

use crate::world::{LONG, SILENCE, Shop, code};

pub(crate) async fn a_change_is_in_force_on_the_next_request_after_it_is_programmed()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("next", 15).await?;
    let rules = "  require: [{ name: office, ip: { cidrs: [198.18.15.3/32] } }]";
    shop.world.apply(&(shop.policy("office", &[], rules) + &shop.ingress(None)))?;
    shop.programmed("office").await?;
    shop.until(3, "/", (200, "")).await?;

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

pub(crate) async fn a_secret_with_keys_that_is_deleted_renamed_or_never_created_never_opens()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("keys", 16).await?;
    let rules = |secret: &str| {
        format!(
            "  require: [{{ name: signed-in, jwt: {{ provider: login }} }}]
  jwtProviders:
  - name: login
    issuer: https://id.example.com
    audiences: [shop-api]
    jwks: {{ secretRef: {{ name: {secret} }} }}"
        )
    };
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
    let manifests = [
        secret("keys"),
        shop.policy("login", &["/"], &rules("keys")),
        shop.policy("never", &["/never"], &rules("never")),
        shop.ingress(None),
    ];
    shop.world.apply(&manifests.concat())?;
    shop.programmed("login").await?;
    shop.programmed("never").await?;
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
    let never = shop.get_with(3, "/never", ("authorization", &bearer)).await?;
    assert_eq!(code(&never), (503, "CredentialStoreUnavailable"));

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
    let never = shop.get_with(3, "/never", ("authorization", &bearer)).await?;
    assert_eq!(code(&never), (503, "CredentialStoreUnavailable"), "somebody else's keys opened it");
    let told = [(401, "TokenMissing"), (503, "CredentialStoreUnavailable")];
    hammer.stop_and_expect(&told).await
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
    shop.until(3, "/", (200, "")).await?;

    let hammer = Hammer::start(shop.world.client(shop.address(99))?, &shop.host, "/");
    shop.world.kubectl("delete accesspolicy office --namespace required")?;
    shop.until(3, "/", (503, "PolicyMissing")).await?;
    assert_eq!(code(&shop.get(99, "/").await?), (503, "PolicyMissing"));
    shop.world.apply(&policy)?;
    shop.until(3, "/", (200, "")).await?;
    hammer.stop_and_expect(&[(403, "AddressNotAllowed"), (503, "PolicyMissing")]).await
}

pub(crate) async fn a_misspelled_field_applied_with_kubectl_closes_and_is_named_with_its_neighbour()
-> anyhow::Result<()> {
    /// A misspelled field, the one that was meant, and what else the policy says, which would admit
    /// the one who asks.
    const TYPOS: [(&str, &str, &str); 2] = [
        ("denny", "deny", "require: [{ name: all, ip: { cidrs: [198.18.0.0/15] } }]"),
        ("requires", "require", "deny: [{ name: some, ip: { cidrs: [192.0.2.0/24] } }]"),
    ];
    const RULE: &str = "{ name: misspelled, ip: { cidrs: [198.18.18.9/32] } }";
    let _noise = SILENCE.read().await;
    let shop = Shop::open("typo", 18).await?;
    let open = "  require: [{ name: all, ip: { cidrs: [198.18.0.0/15] } }]";
    let free = shop.ingress_named("free", "free.typo.test", None);
    shop.world.apply(&(shop.policy("office", &[], open) + &shop.ingress(None) + &free))?;
    shop.until(3, "/", (200, "")).await?;

    for (typo, meant, rest) in TYPOS {
        let manifest = shop.policy("office", &[], &format!("  {rest}\n  {typo}: [{RULE}]"));
        let applied = shop.world.apply(&manifest)?;
        assert!(applied.contains("office configured"), "not kept: {applied}");
        shop.until(3, "/", (503, "PolicyInvalid")).await?;
        let (field, nearest) = (format!("spec.{typo}"), format!("did you mean `{meant}`"));
        let accepted = not_accepted(&shop).await?;
        for part in [&field, &nearest] {
            assert!(accepted.contains(part), "`{part}` is missing: {accepted}");
        }
        let sentence = format!("an Event on the policy names {field}");
        eventually(LONG, &sentence, async || {
            let mut api = shop.world.cluster.server.api().await?;
            let events = api.events(shop.namespace, "AccessPolicy").await?;
            let told = events
                .iter()
                .any(|event| event.reason == "PolicyInvalid" && event.message.contains(&field));
            ensure!(told, "{events:?}");
            Ok(())
        })
        .await?;
        let answer = shop.world.client(shop.address(3))?.get("free.typo.test", "/").await?;
        assert_eq!(answer.status, 200, "an Ingress that the policy does not name was closed");
        shop.world.apply(&shop.policy("office", &[], open))?;
        shop.until(3, "/", (200, "")).await?;
    }
    // A policy whose only rules are misspelled would demand nothing: it doesn't get that far.
    let manifest = shop.policy("office", &[], &format!("  requires: [{RULE}]"));
    let refused = shop.world.apply(&manifest).err().context("a policy without a rule was kept")?;
    assert!(format!("{refused:#}").contains("a policy without a rule"), "{refused:#}");
    Ok(())
}

/// The condition that says why the policy `office` isn't accepted.
async fn not_accepted(shop: &Shop) -> anyhow::Result<String> {
    eventually(LONG, "the policy isn't accepted", async || {
        let mut api = shop.world.cluster.server.api().await?;
        let policy = api.get(&policy_path(shop.namespace, "office")).await?;
        let accepted = condition(&policy, "Accepted").context("no such condition")?;
        ensure!(accepted.get("status").and_then(Value::as_str) == Some("False"), "{accepted}");
        let generation = policy.pointer("/metadata/generation");
        ensure!(accepted.get("observedGeneration") == generation, "{generation:?}: {accepted}");
        Ok(accepted.to_string())
    })
    .await
}
