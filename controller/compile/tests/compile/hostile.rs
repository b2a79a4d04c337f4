//! What a careless or hostile author of files could make open, or make print.

use crate::world::{World, api};

/// A policy in block style, so that each line is one key and its value.
const ADMINS: &str = "---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata:
  name: admins
  namespace: shop
spec:
  targetRefs:
  - group: networking.k8s.io
    kind: Ingress
    name: api
  require:
  - name: nobody-here
    ip:
      cidrs:
      - 203.0.113.0/24
";

/// The text with `from` replaced once, and with a typing error in what stands for it.
fn with(from: &str, to: &str) -> String {
    assert!(ADMINS.contains(from), "no `{from}`");
    api() + &ADMINS.replacen(from, to, 1)
}

#[test]
fn no_typing_error_in_a_key_of_a_policy_opens_its_route() {
    let request = "GET api.example.com/ 198.51.100.1";
    assert_eq!(World::of(&with("admins", "admins")).ask(request), "AddressNotAllowed");
    let keys: Vec<_> = ADMINS
        .lines()
        .filter_map(|line| Some(line.trim_start_matches(['-', ' ']).split_once(':')?.0))
        .collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        let shorter: String = key.chars().skip(1).collect();
        for typo in [format!("{key}s"), shorter, key.to_uppercase(), format!("#{key}")] {
            for (from, to) in [
                (format!("{key}:"), format!("{typo}:")),
                (format!("{key}: "), format!("{key} ")),
                (format!("{key}:"), format!("{key}: [")),
            ] {
                // A policy without a namespace is one of `default`, as with kubectl.
                if !ADMINS.contains(&from) || to == "#namespace:" {
                    continue;
                }
                let world = World::of(&with(&from, &to));
                assert_ne!(world.ask(request), "shop/api:80", "{to}: {:#?}", world.findings());
            }
        }
    }
}

#[test]
fn a_broken_policy_closes_its_namespace_however_the_namespace_is_written() {
    for namespace in ["&here shop", "!!str shop", "\n    shop", ">-\n    shop"] {
        let world = World::of(&with("namespace: shop", &format!("namespace: {namespace}\n  x: [")));
        let answer = world.ask("GET api.example.com/ 198.51.100.1");
        assert_ne!(answer, "shop/api:80", "{namespace}: {:#?}", world.findings());
    }
}

#[test]
fn nothing_of_a_secret_is_in_a_finding() {
    let pem = |kind: &str, text: &str| format!("-----BEGIN {kind}{text}-----END {kind}-----");
    let one_line = pem("PRIVATE KEY", "----- CANARY ");
    let cut = "-----BEGIN PRIVATE KEY-----CANARY".to_owned();
    let garbage = pem("PRIVATE KEY", "-----\\nCANARY!\\n");
    for (field, value) in [("tls.crt", &one_line), ("tls.crt", &cut), ("tls.crt", &garbage)] {
        check_hidden(&format!("stringData: {{ {field}: \"{value}\", tls.key: CANARY }}"));
    }
    for value in [&one_line, &cut, &garbage] {
        check_hidden(&format!("stringData: {{ tls.crt: {CERTIFICATE}, tls.key: \"{value}\" }}"));
    }
    for data in
        ["stringData: CANARY", "data: CANARY", "data: { a: [CANARY] }", "data: { a: 'CANARY!' }"]
    {
        check_hidden(data);
    }
    check_hidden("stringData: { a: 677865827889 }");
}

/// Base64 that is no certificate, which the reader of PEM does not look into.
const CERTIFICATE: &str = "\"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"";

/// Neither the canary nor its bytes, as lists of numbers are printed, are in any finding.
fn check_hidden(data: &str) {
    let ingress =
        api().replace("rules: [", "tls: [{ hosts: [api.example.com], secretName: a }], rules: [");
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{ name: a, namespace: shop }}\n{data}\n"
    );
    let findings = World::of(&(ingress + &secret)).findings();
    assert!(!findings.is_empty(), "{data}");
    for finding in findings {
        let bytes: String = finding.chars().filter(char::is_ascii_digit).collect();
        let shown = finding.contains("CANARY") || bytes.contains("677865827889");
        assert!(!shown, "{data}: {finding}");
    }
}

#[test]
fn no_text_of_a_manifest_breaks_the_line_that_tells_of_it() {
    let evil = "a\\e[31m\\nFinding: forged\\u202e";
    let text = api().replace("name: api, namespace: shop,", &format!(
        "name: api, namespace: shop, annotations: {{ \"whygate.dev/{evil}\": x, whygate.dev/ssl-redirect: \"{evil}\" }},"
    )) + &ADMINS.replace("admins", &format!("\"{evil}\"")).replace("nobody-here", &format!("\"{evil}\"")).replace("    ip:", &format!("    \"{evil}\": 1\n    ip:"))
        + &format!("---\napiVersion: whygate.dev/v1\nkind: \"{evil}\"\nmetadata: {{ name: \"{evil}\" }}\n");
    let world = World::of(&text);
    let problems = world.manifests.problems.iter().map(ToString::to_string);
    let findings = world.compiled.findings.iter().map(ToString::to_string).chain(problems);
    let conditions = world.compiled.statuses.iter().flat_map(|status| &status.conditions);
    let lines: Vec<_> =
        findings.chain(conditions.map(|condition| condition.message.clone())).collect();
    assert!(lines.len() > 3, "{lines:#?}");
    for line in lines {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
    }
}
