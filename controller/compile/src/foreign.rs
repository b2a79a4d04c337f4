//! Annotations of other controllers that protect something: dropping one silently would open a route.

/// An annotation that we do not enforce, and what replaces it.
struct Foreign {
    prefix: &'static str,
    /// The names behind the prefix; `*` at one end stands for anything.
    names: &'static [&'static str],
    replacement: &'static str,
}

const ADDRESSES: &str = "list the networks in an AccessPolicy: `require[].ip.cidrs` to allow, `deny[].ip.cidrs` to refuse";
const CREDENTIALS: &str =
    "demand a credential in an AccessPolicy: `require[].jwt` or `require[].subscription`";
const COMBINATION: &str =
    "say which checks are alternatives with `require[].anyOf` of an AccessPolicy";
const NOTHING: &str = "no field replaces it";
const WHOLE: &str = "express it as rules of an AccessPolicy (`deny` and `require`)";

const NGINX: &str = "nginx.ingress.kubernetes.io/";
const HAPROXY_INGRESS: &str = "haproxy-ingress.github.io/";

const TABLE: &[Foreign] = &[
    Foreign { prefix: NGINX, names: &["*-source-range"], replacement: ADDRESSES },
    Foreign { prefix: NGINX, names: &["*-snippet"], replacement: WHOLE },
    Foreign { prefix: NGINX, names: &["auth-*", "enable-global-auth"], replacement: CREDENTIALS },
    Foreign { prefix: NGINX, names: &["satisfy"], replacement: COMBINATION },
    Foreign {
        prefix: NGINX,
        names: &[
            "ssl-passthrough",
            "limit-*",
            "global-rate-limit*",
            "enable-modsecurity",
            "modsecurity-*",
            "enable-owasp-core-rules",
            "enable-owasp-modsecurity-crs",
        ],
        replacement: NOTHING,
    },
    Foreign { prefix: HAPROXY_INGRESS, names: &["*-source-range"], replacement: ADDRESSES },
    Foreign { prefix: HAPROXY_INGRESS, names: &["auth-*"], replacement: CREDENTIALS },
    Foreign {
        prefix: HAPROXY_INGRESS,
        names: &["config-*", "limit-*", "ssl-passthrough", "waf", "waf-mode"],
        replacement: NOTHING,
    },
    Foreign {
        prefix: "haproxy.org/",
        names: &["allow-list", "deny-list", "whitelist", "blacklist"],
        replacement: ADDRESSES,
    },
    Foreign { prefix: "haproxy.org/", names: &["auth-*"], replacement: CREDENTIALS },
    Foreign {
        prefix: "haproxy.org/",
        names: &["*-snippet", "rate-limit-*", "ssl-passthrough"],
        replacement: NOTHING,
    },
    Foreign {
        prefix: "nginx.org/",
        names: &["basic-auth-*", "policies", "*-snippets"],
        replacement: WHOLE,
    },
    Foreign { prefix: "nginx.com/", names: &["jwt-*"], replacement: CREDENTIALS },
    Foreign {
        prefix: "traefik.ingress.kubernetes.io/",
        names: &["router.middlewares", "router.tls.options"],
        replacement: WHOLE,
    },
    Foreign { prefix: "konghq.com/", names: &["plugins"], replacement: WHOLE },
    Foreign {
        prefix: "alb.ingress.kubernetes.io/",
        names: &["inbound-cidrs"],
        replacement: ADDRESSES,
    },
    Foreign { prefix: "alb.ingress.kubernetes.io/", names: &["auth-*"], replacement: CREDENTIALS },
    Foreign {
        prefix: "alb.ingress.kubernetes.io/",
        names: &["security-groups", "waf-acl-id", "wafv2-acl-arn"],
        replacement: NOTHING,
    },
];

/// What replaces an annotation that protects under another controller; `None` if it does not.
pub(crate) fn replacement(key: &str) -> Option<&'static str> {
    TABLE.iter().find_map(|foreign| {
        let name = key.strip_prefix(foreign.prefix)?;
        foreign.names.iter().any(|pattern| matches(pattern, name)).then_some(foreign.replacement)
    })
}

/// Whether it is a list of networks that are let in, and all are in it: it protects nothing.
/// cert-manager writes such a list on the Ingresses of its solvers.
pub(crate) fn allows_everybody(key: &str, value: &str) -> bool {
    let lets_in = ["whitelist-source-range", "allowlist-source-range"];
    let networks: Vec<&str> = value.split(',').map(str::trim).collect();
    lets_in.iter().any(|name| key.ends_with(&format!("/{name}")))
        && ["0.0.0.0/0", "::/0"].iter().all(|all| networks.contains(all))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_lets_everybody_in_protects_nothing() {
        let key = "nginx.ingress.kubernetes.io/whitelist-source-range";
        assert!(allows_everybody(key, "0.0.0.0/0,::/0"));
        assert!(allows_everybody(key, " ::/0 , 10.0.0.0/8, 0.0.0.0/0"));
        for narrow in ["", "0.0.0.0/0", "::/0", "10.0.0.0/8", "0.0.0.0/00,::/0"] {
            assert!(!allows_everybody(key, narrow), "{narrow}");
        }
        let denies = "nginx.ingress.kubernetes.io/denylist-source-range";
        assert!(!allows_everybody(denies, "0.0.0.0/0,::/0"));
    }

    #[test]
    fn annotations_that_protect_elsewhere_are_known_and_others_are_not() {
        for name in [
            "nginx.ingress.kubernetes.io/whitelist-source-range",
            "nginx.ingress.kubernetes.io/denylist-source-range",
            "nginx.ingress.kubernetes.io/auth-url",
            "nginx.ingress.kubernetes.io/satisfy",
            "nginx.ingress.kubernetes.io/ssl-passthrough",
            "nginx.ingress.kubernetes.io/server-snippet",
            "nginx.ingress.kubernetes.io/limit-rps",
            "traefik.ingress.kubernetes.io/router.middlewares",
            "konghq.com/plugins",
        ] {
            assert!(replacement(name).is_some(), "{name}");
        }
        for name in [
            "nginx.ingress.kubernetes.io/proxy-body-size",
            "kubernetes.io/ingress.class",
            "satisfy",
            "example.com/auth-url",
        ] {
            assert!(replacement(name).is_none(), "{name}");
        }
    }
}
