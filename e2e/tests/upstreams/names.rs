//! Services of type `ExternalName`, with a DNS server of the test's own.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::ensure;
use e2e::client::code;
use e2e::manifests::namespace;
use e2e::upstream::Echo;
use e2e::{Client, Upstream, Whygate, address, eventually};
use tempfile::TempDir;

use super::LONG;

const NAME: &str = "api.partner.example";
const HOST: &str = "shop.test";

/// A folder with a route to this port of a name.
fn manifests(name: &str, port: u16) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let text = format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: partner, namespace: shop }}
spec: {{ type: ExternalName, externalName: {name} }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: web, namespace: shop }}
spec:
  ingressClassName: whygate
  rules:
  - host: {HOST}
    http: {{ paths: [{{ path: /, pathType: Prefix, backend: {{ service: {{ name: partner, port: {{ number: {port} }} }} }} }}] }}
"
    );
    fs::write(folder.path().join("shop.yaml"), namespace("shop") + &text)?;
    Ok(folder)
}

async fn dns() -> anyhow::Result<e2e::Dns> {
    e2e::Dns::start((address(53, 1), 0).into()).await
}

/// The program with leave to ask this server, and flags.
async fn serve(folder: &TempDir, dns: &e2e::Dns, flags: &[&str]) -> anyhow::Result<Whygate> {
    let server = dns.address().to_string();
    let leave = ["--allow-external-name", "--dns-server", &server];
    Whygate::serve(folder.path(), &[&leave, flags].concat()).await
}

pub(crate) async fn a_service_that_is_a_name_is_not_served_unless_a_flag_says_so()
-> anyhow::Result<()> {
    let dns = dns().await?;
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), "partner").await?;
    dns.set(NAME, [upstream.address().ip()], 60);
    let folder = manifests(NAME, upstream.address().port())?;
    let server = dns.address().to_string();
    let whygate = Whygate::serve(folder.path(), &["--dns-server", &server]).await?;
    let answer = Client::new(whygate.http()?).get(HOST, "/").await?;
    assert_eq!(code(&answer), (503, "BackendMissing"));
    whygate.line(LONG, "is of type ExternalName, which is not served").await?;
    assert_eq!((dns.asked(NAME), upstream.requests()), (0, 0));

    // The first request finds what the name stands for: the program waited for the answer. On the
    // machine of somebody who tries manifests that may be on loopback.
    let whygate = serve(&folder, &dns, &[]).await?;
    let echo: Echo = eventually(LONG, "the name leads to the upstream", async || {
        Client::new(whygate.http()?).get(HOST, "/a?b=c").await?.json()
    })
    .await?;
    assert_eq!((echo.upstream.as_str(), echo.uri.as_str()), ("partner", "/a?b=c"));
    assert_eq!(echo.header("host"), [HOST], "the client's, as with every other Service");
    Ok(())
}

pub(crate) async fn a_name_is_asked_for_again_when_its_time_is_up() -> anyhow::Result<()> {
    let dns = dns().await?;
    let before = Upstream::start((address(60, 1), 0).into(), "before").await?;
    let port = before.address().port();
    let after = Upstream::start((address(60, 2), port).into(), "after").await?;
    dns.set(NAME, [before.address().ip()], 1);
    let folder = manifests(NAME, port)?;
    let whygate = serve(&folder, &dns, &["--external-name-cidrs=198.18.60.0/24"]).await?;
    let led_to = async |upstream: &str| {
        eventually(LONG, &format!("the name leads to {upstream}"), async || {
            let answer = Client::new(whygate.http()?).get(HOST, "/").await?;
            let echo: Echo = answer.json()?;
            ensure!(echo.upstream == upstream, "{}", echo.upstream);
            Ok(())
        })
        .await
    };
    led_to("before").await?;
    dns.set(NAME, [after.address().ip()], 1);
    led_to("after").await?;
    // What is not answered any more is used for a while, and told.
    dns.remove(NAME);
    let told = whygate.line(LONG, "the addresses of its last answer are still in use").await?;
    assert!(told.contains("Service `shop/partner` leads to `api.partner.example`, which does not exist in the DNS;"), "{told}");
    led_to("after").await?;
    dns.set(NAME, [before.address().ip()], 60);
    led_to("before").await?;
    whygate.line(LONG, "Cleared").await?;
    Ok(())
}

pub(crate) async fn a_forbidden_address_closes_its_route_and_a_finding_names_it()
-> anyhow::Result<()> {
    let dns = dns().await?;
    let upstream = Upstream::start((address(60, 1), 0).into(), "internal").await?;
    let SocketAddr::V4(internal) = upstream.address() else { return Ok(()) };
    for (addresses, what) in [
        (vec![IpAddr::from(*internal.ip())], "is at 198.18.60.1, a private address"),
        (vec![internal.ip().to_ipv6_mapped().into()], "is at 198.18.60.1, a private address"),
        (vec!["169.254.169.254".parse()?], "is at 169.254.169.254, a link-local address"),
        (vec!["127.0.0.1".parse()?, "fe80::1".parse()?], "is at fe80::1, a link-local address"),
    ] {
        dns.set(NAME, addresses, 60);
        let folder = manifests(NAME, internal.port())?;
        let whygate = serve(&folder, &dns, &[]).await?;
        let finding = whygate.line(LONG, &format!("which {what}")).await?;
        let expected = "Ingress shop/web at spec.rules[0].http.paths[0].backend.service.name: Service `shop/partner` leads to `api.partner.example`, which ";
        assert!(finding.contains(expected), "{finding}");
        let client = Client::new(whygate.http()?);
        let answer = eventually(LONG, "the route is closed", async || {
            let answer = client.get(HOST, "/").await?;
            ensure!(code(&answer) == (503, "BackendMissing"), "{:?}", code(&answer));
            Ok(answer)
        })
        .await?;
        assert!(!answer.text().contains("169.254"), "clients hear nothing of addresses");
    }
    assert_eq!(upstream.connections(), 0);
    Ok(())
}

pub(crate) async fn a_name_that_does_not_exist_is_told() -> anyhow::Result<()> {
    let dns = dns().await?;
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into(), "partner").await?;
    let folder = manifests(NAME, upstream.address().port())?;
    let whygate = serve(&folder, &dns, &[]).await?;
    let finding = whygate.line(LONG, "which does not exist in the DNS").await?;
    assert!(finding.contains("Correct `externalName`, or create the record."), "{finding}");
    let client = Client::new(whygate.http()?);
    eventually(LONG, "the route is closed", async || {
        let answer = client.get(HOST, "/").await?;
        ensure!(code(&answer) == (503, "BackendMissing"), "{:?}", code(&answer));
        Ok(())
    })
    .await?;
    dns.set(NAME, [upstream.address().ip()], 60);
    eventually(LONG, "the name is found once it exists", async || {
        let echo: Echo = client.get(HOST, "/").await?.json()?;
        ensure!(echo.upstream == "partner", "{}", echo.upstream);
        Ok(())
    })
    .await
}
