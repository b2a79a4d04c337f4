//! Annotations of other controllers. Dropping one that protects would open a route, and dropping any
//! of ingress-nginx would serve it in another way, without a word.

mod nginx;

/// An annotation that we do not enforce, and what replaces it.
struct Foreign {
    prefix: &'static str,
    /// The names behind the prefix; `*` at one end stands for anything.
    names: &'static [&'static str],
    replacement: Option<&'static str>,
}

/// What an annotation of another controller comes to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreigner {
    /// It protects there, and what keeps the protection here, if anything does: part of a sentence.
    Protects(Option<&'static str>),
    /// It does something else there, and what to write here: sentences without the last period.
    Serves(&'static str),
}

const ADDRESSES: Option<&str> = Some(
    "list the networks in an AccessPolicy: `require[].ip.cidrs` to allow, `deny[].ip.cidrs` to refuse",
);
const CERTIFICATES: Option<&str> =
    Some("demand a certificate in an AccessPolicy: `require[].clientCertificate`");
const CREDENTIALS: Option<&str> =
    Some("demand a credential in an AccessPolicy: `require[].jwt` or `require[].subscription`");
const COMBINATION: Option<&str> =
    Some("say which checks are alternatives with `require[].anyOf` of an AccessPolicy");
const WHOLE: Option<&str> = Some("express it as rules of an AccessPolicy (`deny` and `require`)");

const HAPROXY_INGRESS: &str = "haproxy-ingress.github.io/";

const TABLE: &[Foreign] = &[
    Foreign { prefix: nginx::PREFIX, names: &["*-source-range"], replacement: ADDRESSES },
    Foreign { prefix: nginx::PREFIX, names: &["*-snippet"], replacement: WHOLE },
    Foreign { prefix: nginx::PREFIX, names: &["auth-tls-*"], replacement: CERTIFICATES },
    Foreign {
        prefix: nginx::PREFIX,
        names: &["auth-*", "enable-global-auth"],
        replacement: CREDENTIALS,
    },
    Foreign { prefix: nginx::PREFIX, names: &["satisfy"], replacement: COMBINATION },
    Foreign {
        prefix: nginx::PREFIX,
        names: &[
            "ssl-passthrough",
            "limit-*",
            "global-rate-limit*",
            "enable-modsecurity",
            "modsecurity-*",
            "enable-owasp-core-rules",
            "enable-owasp-modsecurity-crs",
        ],
        replacement: None,
    },
    Foreign { prefix: HAPROXY_INGRESS, names: &["*-source-range"], replacement: ADDRESSES },
    Foreign { prefix: HAPROXY_INGRESS, names: &["auth-tls-*"], replacement: CERTIFICATES },
    Foreign { prefix: HAPROXY_INGRESS, names: &["auth-*"], replacement: CREDENTIALS },
    Foreign {
        prefix: HAPROXY_INGRESS,
        names: &["config-*", "limit-*", "ssl-passthrough", "waf", "waf-mode"],
        replacement: None,
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
        replacement: None,
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
        replacement: None,
    },
];

/// What an annotation comes to; `None` if it is of no controller that we know, or a list of networks
/// that lets everybody in there, too.
pub(crate) fn read(key: &str, value: &str) -> Option<Foreigner> {
    if allows_everybody(key, value) {
        return None;
    }
    let protecting = TABLE.iter().find_map(|foreign| {
        let name = key.strip_prefix(foreign.prefix)?;
        any(foreign.names, name).then_some(Foreigner::Protects(foreign.replacement))
    });
    protecting.or_else(|| {
        let name = key.strip_prefix(nginx::PREFIX)?;
        Some(Foreigner::Serves(of_nginx(name).unwrap_or(nginx::OTHERWISE)))
    })
}

/// What to write in the place of an annotation of ingress-nginx that protects nothing, known by its
/// name without the prefix.
pub(crate) fn of_nginx(name: &str) -> Option<&'static str> {
    nginx::TABLE.iter().find(|row| any(row.names, name)).map(|row| row.instead)
}

fn any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

/// Whether it is a list of networks that are let in, and all are in it: it protects nothing.
/// cert-manager writes such a list on the Ingresses of its solvers.
fn allows_everybody(key: &str, value: &str) -> bool {
    let lets_in = ["/whitelist-source-range", "/allowlist-source-range"];
    let has = |network| value.split(',').any(|listed| listed.trim() == network);
    lets_in.iter().any(|name| key.ends_with(name)) && has("0.0.0.0/0") && has("::/0")
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
            assert!(matches!(read(name, "x"), Some(Foreigner::Protects(_))), "{name}");
        }
        for name in ["kubernetes.io/ingress.class", "satisfy", "example.com/auth-url"] {
            assert_eq!(read(name, "x"), None, "{name}");
        }
        for prefix in [nginx::PREFIX, HAPROXY_INGRESS] {
            let demanded = read(&format!("{prefix}auth-tls-secret"), "shop/ca");
            assert_eq!(demanded, Some(Foreigner::Protects(CERTIFICATES)), "{prefix}");
        }
    }

    #[test]
    fn whatever_else_ingress_nginx_knows_is_told_what_to_write() {
        let told = |name: &str| read(&format!("{}{name}", nginx::PREFIX), "x");
        for (name, ours) in [
            ("rewrite-target", "rewrite-regex"),
            ("proxy-body-size", "body-limit"),
            ("proxy-ssl-secret", "upstream-ca"),
            ("cors-allow-origin", "cors-origins"),
            ("session-cookie-name", "affinity: cookie"),
        ] {
            let Some(Foreigner::Serves(instead)) = told(name) else { panic!("{name}") };
            assert!(instead.contains(&format!("`whygate.dev/{ours}")), "{name}: {instead}");
        }
        assert_eq!(told("no-such-thing"), Some(Foreigner::Serves(nginx::OTHERWISE)));
    }

    #[test]
    fn no_row_names_an_annotation_that_ingresses_do_not_have() {
        for row in nginx::TABLE {
            for text in row.instead.split("`whygate.dev/").skip(1) {
                let name: String =
                    text.chars().take_while(|it| it.is_ascii_lowercase() || *it == '-').collect();
                let key = format!("whygate.dev/{name}");
                assert!(crate::annotation::is_known(&key), "{key}");
            }
            let shadowed = |name: &&str| any(TABLE_NAMES.as_slice(), name);
            assert!(!row.names.iter().any(shadowed), "{:?} protects, too", row.names);
        }
    }

    /// The names of ingress-nginx that protect.
    static TABLE_NAMES: std::sync::LazyLock<Vec<&str>> = std::sync::LazyLock::new(|| {
        let rows = TABLE.iter().filter(|foreign| foreign.prefix == nginx::PREFIX);
        rows.flat_map(|foreign| foreign.names).copied().collect()
    });

    #[test]
    fn the_page_shows_both_tables_as_they_stand_here() {
        let page = include_str!("../../docs/from-ingress-nginx.md");
        let cells = |names: &[&str], text: &str| {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("| {} | {text} |\n", names.join(", "))
        };
        let protecting = TABLE.iter().filter(|foreign| foreign.prefix == nginx::PREFIX);
        let protecting = protecting.map(|foreign| {
            let replacement = foreign.replacement.map(crate::finding::capitalised);
            cells(foreign.names, replacement.as_deref().unwrap_or("Nothing here takes its place"))
        });
        let others = nginx::TABLE.iter().map(|row| cells(row.names, row.instead));
        for table in [protecting.collect::<String>(), others.collect()] {
            let whole = format!("|---|---|\n{table}\n");
            assert!(page.contains(&whole), "write this table into the page:\n{table}");
        }
    }
}
