//! Annotations of ingress-nginx that protect nothing: without a word the Ingress would be served in
//! another way than its owner knows.

/// What annotations of ingress-nginx begin with.
pub(super) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Annotations, and what to write in their place.
pub(super) struct Row {
    /// The names behind the prefix; `*` at one end stands for anything.
    pub(super) names: &'static [&'static str],
    /// One or two sentences without the last period.
    pub(super) instead: &'static str,
}

/// What is told of a name that stands in no row.
pub(super) const OTHERWISE: &str = "Nothing here takes its place";

/// Of two rows with a name the first counts. The page `from-ingress-nginx.md` shows them all.
pub(super) const TABLE: &[Row] = &[
    Row {
        names: &["rewrite-target", "use-regex"],
        instead: "Write `whygate.dev/rewrite-prefix`, or `whygate.dev/rewrite-regex` with `whygate.dev/rewrite-to`; paths of rules are plain ones",
    },
    Row {
        names: &["app-root"],
        instead: "Give the path `/` (`pathType: Exact`) an Ingress of its own with `whygate.dev/redirect`",
    },
    Row {
        names: &["permanent-redirect", "temporal-redirect"],
        instead: "Write `whygate.dev/redirect`, and `whygate.dev/redirect-status: \"301\"` if it is for good",
    },
    Row {
        names: &["permanent-redirect-code", "temporal-redirect-code"],
        instead: "Write `whygate.dev/redirect-status`",
    },
    Row {
        names: &["from-to-www-redirect"],
        instead: "List both hosts in `spec.rules`, and write `whygate.dev/redirect-host` with the one that the other is sent to",
    },
    Row {
        names: &["ssl-redirect", "force-ssl-redirect"],
        instead: "A host with a certificate redirects by itself, unless `whygate.dev/ssl-redirect: \"false\"` says otherwise. Where a load balancer ends TLS, let it redirect",
    },
    Row {
        names: &["proxy-body-size"],
        instead: "Write `whygate.dev/body-limit`; without it there is no limit",
    },
    Row { names: &["proxy-connect-timeout"], instead: "Write `whygate.dev/connect-timeout`" },
    Row {
        names: &["proxy-read-timeout"],
        instead: "Write `whygate.dev/first-byte-timeout` for the time until an answer begins, and `whygate.dev/idle-timeout` for pauses in it; WebSockets may be silent for `--tunnel-idle-seconds`",
    },
    Row {
        names: &["proxy-send-timeout"],
        instead: "Write `whygate.dev/idle-timeout`, which counts once the answer has begun; until then `--body-idle-seconds` holds for all routes",
    },
    Row {
        names: &[
            "proxy-buffering",
            "proxy-buffer-size",
            "proxy-buffers-number",
            "proxy-busy-buffers-size",
            "proxy-request-buffering",
            "proxy-max-temp-file-size",
            "client-body-buffer-size",
        ],
        instead: "Nothing is needed: bodies are passed on as they come",
    },
    Row {
        names: &["proxy-next-upstream*"],
        instead: "Nothing is needed: what was not sent is tried once more at another endpoint",
    },
    Row {
        names: &["backend-protocol", "proxy-http-version"],
        instead: "Write `whygate.dev/upstream-protocol`: `https`, `h2c` for `GRPC`, `h2` for `GRPCS`",
    },
    Row {
        names: &["proxy-ssl-*"],
        instead: "Write `whygate.dev/upstream-ca` and `whygate.dev/upstream-server-name`. Endpoints over TLS are always verified, and no certificate is shown to them",
    },
    Row { names: &["upstream-vhost"], instead: "Write `whygate.dev/upstream-host`" },
    Row {
        names: &["enable-cors", "cors-allow-origin"],
        instead: "Write `whygate.dev/cors-origins`",
    },
    Row { names: &["cors-allow-methods"], instead: "Write `whygate.dev/cors-methods`" },
    Row { names: &["cors-allow-headers"], instead: "Write `whygate.dev/cors-headers`" },
    Row { names: &["cors-expose-headers"], instead: "Write `whygate.dev/cors-expose-headers`" },
    Row {
        names: &["cors-allow-credentials"],
        instead: "Write `whygate.dev/cors-credentials: \"true\"` if pages may send cookies; without it they may not",
    },
    Row { names: &["cors-max-age"], instead: "Write `whygate.dev/cors-max-age`" },
    Row {
        names: &["affinity", "affinity-mode", "affinity-canary-behavior", "session-cookie-*"],
        instead: "Write `whygate.dev/affinity: cookie`; name and attributes of the cookie are the gateway's",
    },
    Row {
        names: &["upstream-hash-by*"],
        instead: "Write `whygate.dev/affinity: address` or `header:NAME`",
    },
    Row {
        names: &["canary", "canary-*"],
        instead: "Nothing here takes its place: all requests of a path go to one Service, and of two Ingresses with the same path the older one counts",
    },
    Row { names: &["custom-headers"], instead: "Write `whygate.dev/response-headers-set`" },
    Row {
        names: &["x-forwarded-prefix"],
        instead: "Write `whygate.dev/request-headers-set` with another name; `x-forwarded-*` is the gateway's",
    },
    Row { names: &["server-alias"], instead: "Write a rule for each host into `spec.rules`" },
    Row {
        names: &["default-backend", "custom-http-errors", "disable-proxy-intercept-errors"],
        instead: "Write `spec.defaultBackend` for what no rule names; answers of endpoints are passed on as they are",
    },
    Row {
        names: &["proxy-cookie-*", "proxy-redirect-*"],
        instead: "Nothing here takes its place: `Set-Cookie` and `Location` of endpoints are passed on as they are",
    },
    Row {
        names: &["service-upstream", "load-balance"],
        instead: "Nothing is needed: of two endpoints the less busy one is asked; `whygate.dev/affinity` keeps clients at one",
    },
    Row {
        names: &["ssl-ciphers", "ssl-prefer-server-ciphers"],
        instead: "Nothing here takes its place: versions and ciphers are the same for all hosts",
    },
    Row {
        names: &["enable-access-log"],
        instead: "Nothing here takes its place: `--access-log` is for all routes",
    },
    Row {
        names: &["enable-opentelemetry", "opentelemetry-*", "enable-opentracing", "opentracing-*"],
        instead: "Nothing here takes its place: the trace context is passed on by itself, and `--otlp-endpoint` is for all routes",
    },
];
