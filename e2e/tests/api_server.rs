//! The real API server: that it starts, keeps its data, and refuses what our schemas refuse.
#![expect(clippy::unwrap_used, reason = "the first surprise ends the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use e2e::process::Finished;
use e2e::{ApiServer, Client, FaultProxy, eventually};

e2e::suite!(
    needs: [Kubernetes],
    tests: [
        endpoints_of_the_private_range_are_accepted_and_survive_an_outage,
        frozen_api_server_answers_nobody_until_it_is_thawed,
        account_has_the_rights_that_rbac_gives_it_and_no_more,
        wrong_policy_is_refused_with_its_sentence,
    ],
);

const LONG: Duration = Duration::from_secs(30);

const SLICE: &str = r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: default, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints: [{ addresses: ["198.18.3.1"] }]
"#;

async fn endpoints_of_the_private_range_are_accepted_and_survive_an_outage() -> anyhow::Result<()> {
    let mut server = ApiServer::start().await?;
    server.apply(SLICE)?;

    server.stop();
    assert!(Client::new(server.address()).connect("127.0.0.1").await.is_err());
    server.start_again().await?;
    let addresses = ["get", "endpointslices", "-o", "jsonpath={.items[*].endpoints[*].addresses}"];
    assert_eq!(server.kubectl(&addresses)?.success()?, r#"["198.18.3.1"]"#);

    // The same through a proxy that can be told to break.
    let proxy = FaultProxy::start("127.0.0.1:0".parse()?, server.address())?;
    let kubeconfig = server.kubeconfig_through(proxy.address())?;
    let through = ["--kubeconfig", kubeconfig.to_str().unwrap(), "version"];
    let version = server.kubectl(&through)?.success()?;
    assert!(version.contains("Server Version: v1."), "{version}");
    assert!(proxy.accepted() > 0);
    Ok(())
}

async fn frozen_api_server_answers_nobody_until_it_is_thawed() -> anyhow::Result<()> {
    let mut server = ApiServer::start().await?;
    assert_eq!(ask(&server, "30s")?.success()?, "ok");
    server.freeze()?;
    assert_eq!(ask(&server, "1s")?.code, Some(1));
    server.thaw()?;
    assert_eq!(ask(&server, "30s")?.success()?, "ok");
    Ok(())
}

/// Asks whether it is ready, for so long.
fn ask(server: &ApiServer, limit: &str) -> anyhow::Result<Finished> {
    server.kubectl(&["get", "--raw", "/readyz", "--request-timeout", limit])
}

async fn account_has_the_rights_that_rbac_gives_it_and_no_more() -> anyhow::Result<()> {
    let server = ApiServer::start().await?;
    for command in [
        "create serviceaccount reader",
        "create role reader --verb get,list --resource configmaps",
        "create rolebinding reader --role reader --serviceaccount default:reader",
    ] {
        server.kubectl(&command.split(' ').collect::<Vec<_>>())?.success()?;
    }
    let kubeconfig = server.kubeconfig_of_account("default", "reader", server.address())?;
    let asked = |kind| server.kubectl(&["--kubeconfig", kubeconfig.to_str().unwrap(), "get", kind]);
    asked("configmaps")?.success()?;
    let refused = asked("secrets")?;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains(r#"User "system:serviceaccount:default:reader" cannot list"#),
        "{}",
        refused.stderr
    );
    Ok(())
}

async fn wrong_policy_is_refused_with_its_sentence() -> anyhow::Result<()> {
    const RULE: &str = "{ name: office, ip: { cidrs: [10.0.0.0/8] } }";
    let twice = format!("{RULE}, {RULE}");
    let refusals: [(&str, &[&str]); 3] = [
        (
            "{ name: office, ip: { cidrs: [10.0.0.0/33] } }",
            &["spec.require[0].ip.cidrs[0]", "10.0.0.0/33"],
        ),
        (&twice, &["spec.require[1]", "Duplicate value", "office"]),
        (
            "{ name: partner, jwt: { provider: nobody } }",
            &["names a provider that this policy does not have", "`spec.jwtProviders`"],
        ),
    ];
    let server = with_schemas().await?;
    for (rules, parts) in refusals {
        let refused = server.kubectl_with(&["create", "-f", "-"], &policy(rules))?;
        assert_eq!(refused.code, Some(1), "{rules} was accepted");
        for part in parts {
            assert!(refused.stderr.contains(part), "`{part}` is missing: {}", refused.stderr);
        }
    }
    server.kubectl_with(&["create", "-f", "-"], &policy(RULE))?.success()?;
    Ok(())
}

fn policy(rules: &str) -> String {
    format!(
        "
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: office }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: web }}]
  require: [{rules}]
"
    )
}

/// An API server that knows our kinds.
async fn with_schemas() -> anyhow::Result<ApiServer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml");
    ensure!(fs::read_dir(&folder)?.next().is_some(), "there are no schemas in crds/yaml");
    let server = ApiServer::start().await?;
    server.apply_folder(&folder)?;
    eventually(LONG, "AccessPolicies can be listed", async || {
        server.kubectl(&["get", "accesspolicies"])?.success()
    })
    .await?;
    Ok(server)
}
