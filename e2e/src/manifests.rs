//! Manifests that many tests need, as text for `kubectl apply` or for a file.

use std::net::SocketAddr;

/// A Namespace.
pub fn namespace(name: &str) -> String {
    format!("---\n{{ apiVersion: v1, kind: Namespace, metadata: {{ name: {name} }} }}\n")
}

/// A Service with port 80, and its one endpoint.
pub fn backend(namespace: &str, name: &str, endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{ name: {name}, namespace: {namespace} }}
spec: {{ ports: [{{ name: http, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: {namespace}
  labels: {{ kubernetes.io/service-name: {name} }}
addressType: IPv4
ports: [{{ name: http, port: {port} }}]
endpoints: [{{ addresses: [{ip}] }}]
"
    )
}

/// An Ingress of the class `whygate` for one host; `paths` are prefixes and their Services.
#[derive(Debug, Clone, Copy)]
pub struct Ingress<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its host.
    pub host: &'a str,
    /// Prefixes and the Services that they lead to.
    pub paths: &'a [(&'a str, &'a str)],
    /// The policy that it requires.
    pub requires: Option<&'a str>,
    /// The Secret with its certificate.
    pub tls: Option<&'a str>,
}

impl Ingress<'_> {
    /// The manifest.
    pub fn manifest(&self) -> String {
        use std::fmt::Write as _;

        let Self { namespace, name, host, .. } = self;
        let annotations = self
            .requires
            .map(|policy| format!("whygate.dev/require-policy: {policy}"))
            .unwrap_or_default();
        let tls = self
            .tls
            .map(|secret| format!("{{ hosts: [{host}], secretName: {secret} }}"))
            .unwrap_or_default();
        let mut text = format!(
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: {name}, namespace: {namespace}, annotations: {{ {annotations} }} }}
spec:
  ingressClassName: whygate
  tls: [{tls}]
  rules:
  - host: {host}
    http:
      paths:
"
        );
        for (path, service) in self.paths {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "      - {{ path: {path}, pathType: Prefix, backend: {{ service: {{ name: {service}, \
                 port: {{ number: 80 }} }} }} }}"
            );
        }
        text
    }
}

/// An `AccessPolicy` on one Ingress, narrowed to `paths` (none: all of it); `rules` are the lines of
/// its spec below `targetRefs`, indented by two.
pub fn policy(namespace: &str, name: &str, ingress: &str, paths: &[&str], rules: &str) -> String {
    let paths = paths.join(", ");
    format!(
        "---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata: {{ name: {name}, namespace: {namespace} }}
spec:
  targetRefs: [{{ group: networking.k8s.io, kind: Ingress, name: {ingress}, paths: [{paths}] }}]
{rules}
"
    )
}
