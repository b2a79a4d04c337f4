//! A cluster as Whygate finds it: our kinds, the class, and an account with the rights that it needs.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::api_server::ApiServer;
use crate::wait::eventually;

/// Longest time until a change is programmed: 1 minute, because watches come back at growing
/// distances after an outage. Otherwise it takes less than a second.
const PROGRAMMED_LIMIT: Duration = Duration::from_mins(1);

/// Where the accounts are.
const NAMESPACE: &str = "whygate";

const CLASS: &str = "
{ apiVersion: v1, kind: Namespace, metadata: { name: whygate } }
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: { name: whygate }
spec: { controller: whygate.dev/ingress-controller }
";

/// API group, resources, verbs.
type Right = (&'static str, &'static str, &'static str);

/// What Whygate needs for all namespaces at once, whichever of them it watches.
const EVERYWHERE: [Right; 5] = [
    ("", "namespaces", "get list watch"),
    ("networking.k8s.io", "ingressclasses", "get list watch"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "get list watch"),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
];

/// What it needs in each namespace that it watches.
const IN_EACH_NAMESPACE: [Right; 8] = [
    ("", "services secrets configmaps", "get list watch"),
    ("", "events", "get create update patch"),
    ("discovery.k8s.io", "endpointslices", "get list watch"),
    ("coordination.k8s.io", "leases", "get list create update patch delete"),
    ("networking.k8s.io", "ingresses", "get list watch"),
    ("networking.k8s.io", "ingresses/status", "get update patch"),
    ("whygate.dev", "accesspolicies accessplans accesssubscriptions", "get list watch"),
    (
        "whygate.dev",
        "accesspolicies/status accessplans/status accesssubscriptions/status",
        "get update patch",
    ),
];

/// An API server with our kinds and the class `whygate`.
#[derive(Debug)]
pub struct Cluster {
    /// The API server.
    pub server: ApiServer,
}

impl Cluster {
    /// Starts an API server and applies what belongs to an installation.
    ///
    /// # Errors
    /// The API server doesn't start or refuses our manifests.
    pub async fn start() -> anyhow::Result<Self> {
        let server = ApiServer::start().await?;
        server.apply(CLASS)?;
        let this = Self { server };
        this.install_definitions()?;
        Ok(this)
    }

    /// A kubeconfig for a new account with all rights, straight to the API server.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn account(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.account_without(name, None, self.server.address())
    }

    /// A kubeconfig for a new account that lacks one right, a resource and a verb; `through` is the
    /// API server's address or that of a proxy before it.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn account_without(
        &self,
        name: &str,
        lacking: Option<(&str, &str)>,
        through: SocketAddr,
    ) -> anyhow::Result<PathBuf> {
        let granted = |resource: &str, verb: &str| lacking != Some((resource, verb));
        let rules = rules(&EVERYWHERE, granted) + &rules(&IN_EACH_NAMESPACE, granted);
        self.server.apply(&(account(name) + &role(name, None, &rules)))?;
        self.server.kubeconfig_of_account(NAMESPACE, name, through)
    }

    /// A kubeconfig for a new account that has no rights in any namespace until [`Self::grant`]
    /// gives them.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn account_without_namespaces(&self, name: &str) -> anyhow::Result<PathBuf> {
        let rules = rules(&EVERYWHERE, |_, _| true);
        self.server.apply(&(account(name) + &role(name, None, &rules)))?;
        self.server.kubeconfig_of_account(NAMESPACE, name, self.server.address())
    }

    /// Sets what an account may do in one namespace: everything that is needed there but reading
    /// the resource `lacking`.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn grant(
        &self,
        account: &str,
        namespace: &str,
        lacking: Option<&str>,
    ) -> anyhow::Result<()> {
        let rules = rules(&IN_EACH_NAMESPACE, |resource, _| lacking != Some(resource));
        self.server.apply(&role(account, Some(namespace), &rules)).map(drop)
    }

    /// Installs the definitions of our kinds, as an installation does, and waits for them.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn install_definitions(&self) -> anyhow::Result<()> {
        self.server.apply_folder(&schemas()?)?;
        let established = ["wait", "--for=condition=Established", "crd", "--all"];
        self.server.kubectl(&established)?.success().map(drop)
    }

    /// The name of an account as the API server knows it.
    pub fn user(name: &str) -> String {
        format!("system:serviceaccount:{NAMESPACE}:{name}")
    }

    /// Waits until the proxy enforces the newest generation of a policy, and gives back the policy.
    ///
    /// # Errors
    /// It doesn't within a minute; the error shows the conditions.
    pub async fn programmed(&self, namespace: &str, policy: &str) -> anyhow::Result<Value> {
        let path = policy_path(namespace, policy);
        let mut api = self.server.api().await?;
        let sentence = format!("policy {namespace}/{policy} is programmed");
        eventually(PROGRAMMED_LIMIT, &sentence, async || {
            let policy = api.get(&path).await?;
            let condition = condition(&policy, "Programmed").context("no such condition")?;
            let generation = policy.pointer("/metadata/generation");
            let holds = condition.get("status").and_then(Value::as_str) == Some("True")
                && condition.get("observedGeneration") == generation;
            ensure!(holds, "{generation:?}: {condition}");
            Ok(policy)
        })
        .await
    }
}

/// Where the API server has a policy.
pub fn policy_path(namespace: &str, name: &str) -> String {
    format!("/apis/whygate.dev/v1alpha1/namespaces/{namespace}/accesspolicies/{name}")
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(name))
}

/// The folder with the definitions of our kinds.
///
/// # Errors
/// It is empty.
pub fn schemas() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml");
    ensure!(fs::read_dir(&folder)?.next().is_some(), "there are no schemas in crds/yaml");
    Ok(folder)
}

fn account(name: &str) -> String {
    format!(
        "
{{ apiVersion: v1, kind: ServiceAccount, metadata: {{ name: {name}, namespace: {NAMESPACE} }} }}
"
    )
}

/// A role of an account, in one namespace or everywhere, and the binding between them.
fn role(name: &str, namespace: Option<&str>, rules: &str) -> String {
    let (kind, place) = namespace.map_or(("ClusterRole", String::new()), |namespace| {
        ("Role", format!(", namespace: {namespace}"))
    });
    format!(
        "---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}Binding
metadata: {{ name: {name}{place} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name} }}
subjects: [{{ kind: ServiceAccount, name: {name}, namespace: {NAMESPACE} }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata: {{ name: {name}{place} }}
rules:
{rules}"
    )
}

/// Rules of a role: of these rights what `granted` says of a resource and a verb.
fn rules(rights: &[Right], granted: impl Fn(&str, &str) -> bool) -> String {
    let mut text = String::new();
    for (group, resources, verbs) in rights {
        for resource in resources.split(' ') {
            let verbs: Vec<_> = verbs.split(' ').filter(|verb| granted(resource, verb)).collect();
            if verbs.is_empty() {
                continue;
            }
            let verbs = verbs.join(", ");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "- {{ apiGroups: ['{group}'], resources: [{resource}], verbs: [{verbs}] }}"
            );
        }
    }
    text
}
