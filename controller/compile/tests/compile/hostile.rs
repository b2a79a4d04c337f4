//! What a careless or hostile author of files could make print.

use crate::world::{World, api};

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
