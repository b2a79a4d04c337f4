//! The closed catalogue of answers that are not the upstream's: one code, one status, one page.

use http::StatusCode;

/// Who has to act when a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The caller: another request could pass.
    Client,
    /// The service behind the route.
    Upstream,
    /// The configuration or this program.
    Us,
}

impl Fault {
    /// `client`, `upstream` or `gateway`, as logs and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Us => "gateway",
        }
    }
}

macro_rules! codes {
    ($($code:ident $status:ident $fault:ident {
        client: $client:literal, meaning: $meaning:literal, remedy: $remedy:literal $(,)?
    })*) => {
        /// One way in which a request can end without the upstream's answer.
        ///
        /// Its name is the only spelling: response header, problem type, Event reason, log field,
        /// metric label, page of the documentation. A code is never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(clippy::doc_markdown, reason = "the sentences are also shown to people")]
        pub enum Code {
            $(#[doc = $meaning] $code,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            /// The one spelling.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => stringify!($code)),* }
            }

            /// The HTTP status of the answer (RFC 9110 section 15).
            pub fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status),* }
            }

            /// Who has to act.
            pub fn fault(self) -> Fault {
                match self { $(Self::$code => Fault::$fault),* }
            }

            /// What a client may be told under disclosure `Reason`.
            pub fn client_sentence(self) -> &'static str {
                match self { $(Self::$code => $client),* }
            }

            /// What happened, for the operator who reads the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$code => $meaning),* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy),* }
            }
        }
    };
}

codes! {
    AddressDenied FORBIDDEN Client {
        client: "Your network address is blocked here.",
        meaning: "A `deny` rule names a network that holds the client's address.",
        remedy: "Remove or narrow the entry of `cidrs` that the refusal names, if the address should pass.",
    }
    AddressNotAllowed FORBIDDEN Client {
        client: "Your network address is not allowed here.",
        meaning: "A requirement lists networks and the client's address is in none of them.",
        remedy: "Add the address with /32 (IPv6: /128) to the list that the refusal names. If the address is a node's or a load balancer's, set `externalTrafficPolicy: Local` or the trusted proxies instead.",
    }
    ClientAddressUnknown FORBIDDEN Us {
        client: "Your network address could not be determined.",
        meaning: "A rule asks for the client's address and the listener cannot tell it: the peer is part of the infrastructure, or a trusted proxy sent no readable address.",
        remedy: "Set `externalTrafficPolicy: Local`, or `--client-address` with `--trusted-proxies`; `--infrastructure-cidrs` says which peers cannot be clients, and `ip.infrastructure: true` admits them to one check.",
    }
    TokenMissing UNAUTHORIZED Client {
        client: "A bearer token is required.",
        meaning: "A requirement asks for a token and the request carries none; if an API key would do as well, neither that.",
        remedy: "Send the token as `Authorization: Bearer TOKEN`.",
    }
    TokenMalformed UNAUTHORIZED Client {
        client: "The token is not a readable JSON Web Token.",
        meaning: "The token is not three parts of base64url, a part is not a JSON object with unique names, a claim has the wrong type, or the token is too long.",
        remedy: "Send the token exactly as the identity provider issued it.",
    }
    TokenAlgorithmNotAllowed UNAUTHORIZED Client {
        client: "The token is signed with an algorithm that is not accepted.",
        meaning: "The algorithm in the token's header is not in the provider's `algorithms`.",
        remedy: "Let the identity provider sign with an accepted algorithm, or add its algorithm to `jwtProviders[].algorithms`.",
    }
    TokenKeyUnknown UNAUTHORIZED Client {
        client: "The token is signed with a key that is not known.",
        meaning: "No key of the provider's key set fits the token's key id and algorithm; or a connection that goes on began with a token that the provider's present keys have not verified.",
        remedy: "Put the provider's current key set into `jwtProviders[].jwks`; a token issued before a key rotation must be renewed.",
    }
    TokenSignatureInvalid UNAUTHORIZED Client {
        client: "The token's signature is not valid.",
        meaning: "The key that the token names did not make its signature.",
        remedy: "Get a new token from the configured issuer; if every token fails, the key set belongs to another issuer.",
    }
    TokenExpired UNAUTHORIZED Client {
        client: "The token has expired.",
        meaning: "The time in the token's `exp` claim, with the allowed clock skew, has passed.",
        remedy: "Renew the token. If it was just issued, compare the clocks of issuer and gateway, or raise `jwtProviders[].clockSkew`.",
    }
    TokenNotYetValid UNAUTHORIZED Client {
        client: "The token is not valid yet.",
        meaning: "The time in the token's `nbf` claim, with the allowed clock skew, lies ahead.",
        remedy: "Compare the clocks of issuer and gateway, or raise `jwtProviders[].clockSkew`.",
    }
    TokenIssuerMismatch UNAUTHORIZED Client {
        client: "The token was issued by somebody else.",
        meaning: "The token's `iss` claim is not the provider's `issuer`, character by character.",
        remedy: "Ask the configured issuer for a token, or correct `jwtProviders[].issuer`.",
    }
    TokenAudienceMismatch UNAUTHORIZED Client {
        client: "The token was issued for another audience.",
        meaning: "None of the token's audiences is in the provider's `audiences`.",
        remedy: "Request the token for one of the accepted audiences, or add its audience to `jwtProviders[].audiences`.",
    }
    TokenScopeMissing FORBIDDEN Client {
        client: "The token lacks a scope that is required.",
        meaning: "The token is valid, but its `scope` (or `scp`) claim lacks what the rule asks for.",
        remedy: "Grant the scope to the client at the identity provider, or change `scopes` of the rule.",
    }
    TokenClaimMismatch FORBIDDEN Client {
        client: "The token lacks a claim that is required.",
        meaning: "The token is valid, but a claim is absent, of another type or of another value than the rule asks for.",
        remedy: "Let the identity provider issue the claim that the refusal names, or change `claims` of the rule.",
    }
    KeyMissing UNAUTHORIZED Client {
        client: "An API key is required.",
        meaning: "A requirement asks for a subscription and the request carries no API key; if a token would do as well, neither that.",
        remedy: "Send the key as `x-api-key: KEY`; `whygate key new` makes one, and its digest goes into an AccessSubscription.",
    }
    KeyUnknown UNAUTHORIZED Client {
        client: "The API key is not known.",
        meaning: "The API key has the wrong form, or no subscription holds its digest.",
        remedy: "Compare the digest in the AccessSubscription with the one that `whygate key new` printed beside the key.",
    }
    SubscriptionExpired FORBIDDEN Client {
        client: "The subscription has expired.",
        meaning: "The AccessSubscription's `expiresAt` has passed.",
        remedy: "Set a later `spec.expiresAt` on the subscription.",
    }
    SubscriptionSuspended FORBIDDEN Client {
        client: "The subscription is suspended.",
        meaning: "The AccessSubscription says `suspend: true`.",
        remedy: "Set `spec.suspend: false` on the subscription.",
    }
    SubscriptionInvalid FORBIDDEN Client {
        client: "The subscription is not valid.",
        meaning: "The AccessSubscription cannot count: its plan does not exist, the plan does not admit its namespace, or a field is wrong.",
        remedy: "Correct the field that the refusal and the subscription's status name.",
    }
    PlanNotAccepted FORBIDDEN Client {
        client: "The subscription's plan is not accepted here.",
        meaning: "The subscription is valid, but the rule accepts other plans.",
        remedy: "Subscribe to one of the plans in `subscription.plans`, which are those of the policy's namespace, or add the plan there.",
    }
    CertificateMissing FORBIDDEN Client {
        client: "A client certificate is required.",
        meaning: "A requirement asks for a client certificate. The handshake asked for one and the client showed none, or the request came without TLS.",
        remedy: "Show a certificate in the TLS handshake that an authority of the Secret in `clientCertificate.caSecretRef` issued.",
    }
    CertificateUntrusted FORBIDDEN Client {
        client: "The client certificate is not from an accepted authority.",
        meaning: "No authority of the Secret in `clientCertificate.caSecretRef` vouches for the client's certificate, by itself or through the certificates that came with it.",
        remedy: "Let an authority of that Secret issue the certificate, send the certificates in between along with it, or add its issuer to the Secret.",
    }
    CertificateExpired FORBIDDEN Client {
        client: "It is not the time of the client certificate.",
        meaning: "The client's certificate, or one that vouches for it, the authority's among them, has expired or is not valid yet. Clocks may differ by 60 s.",
        remedy: "Renew the certificate. If it was just issued, compare the clocks of authority and gateway.",
    }
    CertificateNameMismatch FORBIDDEN Client {
        client: "The client certificate is not one that is accepted here.",
        meaning: "The client's certificate is valid, but none of its alternative names is in `clientCertificate.subjectAltNames`.",
        remedy: "Let the authority issue a certificate with one of the names that the refusal lists, or add the certificate's name to `subjectAltNames`.",
    }
    MethodRefused FORBIDDEN Client {
        client: "The request's method is not allowed here.",
        meaning: "A requirement lists methods and the request's is not among them.",
        remedy: "Use one of the listed methods, or add the method to `methods`.",
    }
    OriginNotAllowed FORBIDDEN Client {
        client: "Pages of this origin may not call this service.",
        meaning: "A browser asked by a preflight whether pages of an origin may call, and the route's `whygate.dev/cors-origins` does not list it. No other request is ever refused for its origin.",
        remedy: "Add the origin to `whygate.dev/cors-origins` of the Ingress, if its pages should call.",
    }
    RuleMatched FORBIDDEN Client {
        client: "The request is blocked here.",
        meaning: "Every check of a `deny` rule, other than by address alone, matched the request.",
        remedy: "Narrow the rule that the refusal names, if the request should pass.",
    }
    PolicyRequired FORBIDDEN Us {
        client: "Nothing admits requests here yet.",
        meaning: "The posture is Closed and no accepted, enforced policy with a `require` rule covers the request.",
        remedy: "Attach an AccessPolicy with a `require` rule. A route meant for all says so: `require: [{name: everyone, ip: {cidrs: [0.0.0.0/0, \"::/0\"], infrastructure: true}}]`.",
    }
    PolicyInvalid SERVICE_UNAVAILABLE Us {
        client: "The access rules of this service are being corrected.",
        meaning: "An AccessPolicy of the route cannot be understood, so what it would admit is unknown.",
        remedy: "Correct the field that the refusal and the policy's Accepted condition name.",
    }
    PolicyMissing SERVICE_UNAVAILABLE Us {
        client: "The access rules of this service are incomplete.",
        meaning: "The Ingress demands a policy by `whygate.dev/require-policy` that does not exist, is not accepted, is in shadow, or does not cover the request.",
        remedy: "Do what the refusal says to the policy that it names: apply it, correct it, add this Ingress to its `targetRefs`, or enforce it.",
    }
    PolicyUnenforceable SERVICE_UNAVAILABLE Us {
        client: "The access rules of this service cannot be enforced.",
        meaning: "The Ingress asks for protection that this program cannot give: an annotation of another controller, an unknown `whygate.dev/` key, or a kind that may not be read.",
        remedy: "Replace the annotation by the field that the refusal names, or grant the right it names.",
    }
    RouteInvalid SERVICE_UNAVAILABLE Us {
        client: "This route is being corrected.",
        meaning: "A rule of the Ingress cannot be understood, its Namespace is not known yet, or the Namespace has more Ingresses than it may have. Its requests are refused and never fall through to a wider route. So is a request of which its `whygate.dev/rewrite-regex` makes a path that could be read in two ways.",
        remedy: "Correct the field that the refusal names.",
    }
    CredentialStoreUnavailable SERVICE_UNAVAILABLE Us {
        client: "Credentials cannot be verified at the moment.",
        meaning: "A credential was presented, and the Secret or plan to verify it with is missing or unreadable.",
        remedy: "Do what the refusal says to the object that it names: create or correct it, grant the right to read it, or give a Secret the label `whygate.dev/use`.",
    }
    JudgementFailed SERVICE_UNAVAILABLE Us {
        client: "The request could not be judged or answered.",
        meaning: "Judging or answering the request failed inside this program. The request was refused; one that had been admitted before may have reached its endpoint.",
        remedy: "Report it with the log line of this request: it is a bug.",
    }
    MisdirectedRequest MISDIRECTED_REQUEST Client {
        client: "This connection was opened for another host.",
        meaning: "The host of the TLS handshake and the host of the request belong to different namespaces, or ask clients for different certificates; or the host has begun to ask since the connection was opened.",
        remedy: "Open a connection for the host itself (RFC 9110 section 15.5.20).",
    }
    RequestMalformed BAD_REQUEST Client {
        client: "The request can be read in more than one way.",
        meaning: "Two servers could read the request differently, so it is not forwarded.",
        remedy: "Send the request in the form that the named rule asks for.",
    }
    BodyTooLarge PAYLOAD_TOO_LARGE Client {
        client: "The request's body is too large.",
        meaning: "The body of the request is longer than the route's `whygate.dev/body-limit`, by its length or by what came of it.",
        remedy: "Send a smaller body, or raise `whygate.dev/body-limit` of the Ingress.",
    }
    UriTooLong URI_TOO_LONG Client {
        client: "The request's target is too long.",
        meaning: "The request target is longer than `--uri-limit-bytes`.",
        remedy: "Send a shorter target, or raise `--uri-limit-bytes`.",
    }
    HeadersTooLarge REQUEST_HEADER_FIELDS_TOO_LARGE Client {
        client: "The request has too many or too large header fields.",
        meaning: "The request has more header fields than `--header-limit-count`. Counted without this code are heads that end in the HTTP parser with a bare 431: larger than `--header-limit-bytes`, or on HTTP/1.1 with too many fields.",
        remedy: "Send fewer or smaller header fields (cookies, mostly), or raise `--header-limit-count`.",
    }
    RequestTimeout REQUEST_TIMEOUT Client {
        client: "The request's body did not arrive in time.",
        meaning: "The body made no progress for `--body-idle-seconds`, or came in fewer bytes a second than `--body-rate-bytes-per-second`.",
        remedy: "Send the body without pauses; for a slow network change the flag that the refusal names.",
    }
    EncodingNotSupported NOT_IMPLEMENTED Client {
        client: "The request's transfer encoding is not supported.",
        meaning: "Transfer-Encoding says something other than `chunked`.",
        remedy: "Send the body with Content-Length or with chunked encoding alone.",
    }
    RouteNotFound NOT_FOUND Client {
        client: "Nothing is published under this host and path.",
        meaning: "No Ingress of this controller has a rule for the host and path, and there is no default backend; or the path does not match `whygate.dev/rewrite-regex` of the one that has.",
        remedy: "Compare host and path with `kubectl get ingress -A`; check that the Ingress has our class.",
    }
    BackendMissing SERVICE_UNAVAILABLE Us {
        client: "The service behind this route is not set up.",
        meaning: "The Service or the port that the Ingress names does not exist, or is of a type that is not proxied to, or its external name leads nowhere or to an address that it must not lead to.",
        remedy: "Create the Service, or correct `backend.service` of the rule that the message names; of an external name look at the finding.",
    }
    NoEndpoints SERVICE_UNAVAILABLE Upstream {
        client: "The service behind this route is not available.",
        meaning: "The Service has no endpoint that is ready.",
        remedy: "Look at the pods that the Service selects: `kubectl get endpointslices -n NAMESPACE -l kubernetes.io/service-name=NAME`. Manifests in files need an EndpointSlice beside the Service.",
    }
    UpstreamConnectFailed BAD_GATEWAY Upstream {
        client: "The service behind this route could not be reached.",
        meaning: "No connection to the endpoint could be opened: refused, unreachable, timed out, or not to be trusted over TLS.",
        remedy: "Check that the pod listens on the port of the Service and that no NetworkPolicy forbids the gateway.",
    }
    UpstreamOverloaded SERVICE_UNAVAILABLE Upstream {
        client: "The service behind this route has too much to do at the moment.",
        meaning: "The endpoint has as many requests of a data thread as `--upstream-connection-limit-count` allows, and as many wait already, or it had no room within the time that a connection may take to open. The answer says `Retry-After: 1`.",
        remedy: "Run more endpoints, look at why they take so long, or raise `--upstream-connection-limit-count`.",
    }
    UpstreamReset BAD_GATEWAY Upstream {
        client: "The service behind this route broke the connection.",
        meaning: "The endpoint closed the connection before its answer was complete.",
        remedy: "Look at the log of the pod that the message names.",
    }
    UpstreamTimeout GATEWAY_TIMEOUT Upstream {
        client: "The service behind this route did not answer in time.",
        meaning: "The endpoint accepted the request and sent no answer within `--upstream-first-byte-seconds`, or paused in the middle of its answer for `--transfer-idle-seconds` (a route has its own: `whygate.dev/first-byte-timeout`, `whygate.dev/idle-timeout`); then the client has the status already, and its connection is closed.",
        remedy: "Look at the pod that the message names; raise the limit that was reached if the service is slow by design.",
    }
    UpstreamMalformed BAD_GATEWAY Upstream {
        client: "The service behind this route gave an unreadable answer.",
        meaning: "What the endpoint sent is no response of the HTTP that it is spoken to in, or it switched to a protocol that was not asked for, or did not switch and answered a WebSocket of HTTP/2 with success.",
        remedy: "Check that the Service's port speaks plain HTTP/1.1, or say what it speaks by `appProtocol` or `whygate.dev/upstream-protocol`.",
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_sentences() {
        for code in Code::ALL {
            for text in [code.client_sentence(), code.meaning(), code.remedy()] {
                assert!(text.ends_with('.') && text.len() > 20, "{code}: {text}");
            }
        }
    }

    #[test]
    fn only_a_credential_that_could_help_is_asked_for_with_401() {
        for code in Code::ALL {
            let asks = code.as_str().starts_with("Token") || code.as_str().starts_with("Key");
            if code.status() == StatusCode::UNAUTHORIZED {
                assert!(asks, "{code}");
            }
        }
    }

    #[test]
    fn a_fault_of_ours_is_never_a_400_or_401() {
        for code in Code::ALL.iter().filter(|code| code.fault() == Fault::Us) {
            assert!(matches!(code.status().as_u16(), 403 | 503), "{code}");
        }
    }
}
