//! A certificate whose Secret goes away.

use anyhow::{Context as _, ensure};
use e2e::manifests::Ingress;
use e2e::{Answer, Authority, Client, Hammer, Whygate, eventually};

use crate::world::{LONG, SILENCE, Shop, code};

pub(crate) async fn a_deleted_certificate_is_served_on_until_a_restart_and_opens_nothing()
-> anyhow::Result<()> {
    let _noise = SILENCE.read().await;
    let shop = Shop::open("certificate", 20).await?;
    let whygate = &shop.world.whygate;
    let ingress = Ingress {
        namespace: shop.namespace,
        name: "web",
        host: &shop.host,
        paths: &[("/", "api")],
        requires: None,
        tls: Some("certificate"),
    };
    let first = &shop.world.authority;
    let secret = first.server(&[&shop.host])?.secret(shop.namespace, "certificate");
    shop.world.apply(&(secret + &ingress.manifest()))?;
    served(&shop, whygate, first).await?;

    let client = Client::new(whygate.https()?).trusting(first)?.from(shop.address(3));
    let hammer = Hammer::start(client, &shop.host, "/");
    shop.world.kubectl("delete secret certificate --namespace certificate")?;
    event(&shop, "last good certificate is served until").await?;
    hammer.stop_and_expect(&[(200, "")]).await?;
    plain_is_closed(&shop, whygate).await?;

    // One that starts now has never seen the certificate.
    let kubeconfig = shop.world.cluster.account("certificate")?;
    let flags = ["--infrastructure-cidrs=none", "--watch-namespace", shop.namespace];
    let late = Whygate::run(&kubeconfig, &flags).await?;
    let error = over_tls(&shop, &late, first).await.err();
    let error = format!("{:#}", error.context("it has a certificate from nowhere")?);
    ensure!(error.contains("TLS handshake"), "{error}");
    plain_is_closed(&shop, &late).await?;

    // A new certificate counts at once, in both.
    let second = Authority::new("second")?;
    let secret = second.server(&[&shop.host])?.secret(shop.namespace, "certificate");
    shop.world.apply(&secret)?;
    served(&shop, whygate, &second).await?;
    served(&shop, &late, &second).await
}

async fn over_tls(shop: &Shop, whygate: &Whygate, authority: &Authority) -> anyhow::Result<Answer> {
    let client = Client::new(whygate.https()?).trusting(authority)?.from(shop.address(3));
    client.get(&shop.host, "/").await
}

/// Waits until the host is served with a certificate of this authority.
async fn served(shop: &Shop, whygate: &Whygate, authority: &Authority) -> anyhow::Result<()> {
    eventually(LONG, "the host is served over TLS", async || {
        let answer = over_tls(shop, whygate, authority).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

/// Plain HTTP leads to TLS, whether there is a certificate or not.
async fn plain_is_closed(shop: &Shop, whygate: &Whygate) -> anyhow::Result<()> {
    let before = shop.upstream.requests();
    let answer = Client::new(whygate.http()?).from(shop.address(3)).get(&shop.host, "/").await?;
    ensure!(code(&answer) == (308, ""), "{:?} {}", code(&answer), answer.text());
    ensure!(shop.upstream.requests() == before, "a request passed in plain text");
    Ok(())
}

async fn event(shop: &Shop, part: &str) -> anyhow::Result<()> {
    eventually(LONG, &format!("an Event on the Ingress says `{part}`"), async || {
        let mut api = shop.world.cluster.server.api().await?;
        let events = api.events(shop.namespace, "Ingress").await?;
        let told = |event: &e2e::api::Event| {
            event.reason == "CertificateInvalid" && event.message.contains(part)
        };
        ensure!(events.iter().any(told), "{events:?}");
        Ok(())
    })
    .await
}
