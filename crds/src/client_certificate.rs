//! Client certificates: who may issue them, and which names they must have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{pattern, presence::at_least_one};

/// A check of the certificate that the client shows in the TLS handshake.
///
/// Only clients of hosts with such a check are asked for a certificate. Its
/// validity is judged at every request, and a connection that goes on for long is
/// closed when it ends. Lists of revoked certificates are not asked for.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateCheck {
    /// A Secret in the namespace of the policy that holds the certificates of the
    /// authorities, in PEM under `ca.crt`. One of them must vouch for the
    /// certificate of the client. While it is missing the check cannot be judged,
    /// so `require` refuses. The Secret needs the label `whygate.dev/use` to be
    /// read, unless its type is `kubernetes.io/tls`.
    pub ca_secret_ref: CaSecretRef,

    /// Names of which the certificate must have one. Left out: any certificate of
    /// the authorities will do.
    /// Example: `{uris: ["spiffe://acme/*"]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<SubjectAltNames>,
}

/// A Secret in the namespace of the policy.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    /// Name of the Secret. At most 253 characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = pattern::OBJECT_NAME))]
    pub name: String,
}

/// Alternative names of a certificate. One entry of any list is enough.
#[derive(Serialize, Deserialize, Debug, Default, PartialEq, Eq, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-whygate-presence" = at_least_one(&["uris", "dnsNames", "emails"], "give names in `uris`, `dnsNames` or `emails`, or leave `subjectAltNames` out")))]
pub struct SubjectAltNames {
    /// URIs, as SPIFFE has them, compared character by character. `*` stands for
    /// one whole element of the path: `spiffe://acme/*` is `spiffe://acme/web`, not
    /// `spiffe://acme/shop/web`. At most 64, of at most 512 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub uris: Vec<String>,

    /// Hosts, whatever their case. `*` stands for the whole first label:
    /// `*.example.com` is `a.example.com`, not `a.b.example.com`. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub dns_names: Vec<String>,

    /// Addresses of electronic mail; what is behind the `@` whatever its case. `*`
    /// stands for all that is before it: `*@example.com`. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 320)))]
    pub emails: Vec<String>,
}
