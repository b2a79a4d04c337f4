//! Header fields of requests and answers, and HSTS.

use super::{check_closed, options};

#[test]
fn header_fields_are_read_a_line_each() {
    let read = options(&[
        ("request-headers-set", "x-team: shop\n\n  X-Path:  C:\\a: b  \n"),
        ("request-headers-add", "x-empty:"),
        ("request-headers-remove", "authorization, X-Debug\nx-more"),
        ("response-headers-set", "x-frame-options: DENY"),
        ("response-headers-remove", "server,strict-transport-security"),
    ]);
    let fields = |fields: &[(http::HeaderName, http::HeaderValue)]| -> Vec<String> {
        let text = |value: &http::HeaderValue| value.to_str().expect("text").to_owned();
        fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect()
    };
    assert_eq!(fields(read.request_headers.set()), ["x-team=shop", "x-path=C:\\a: b"]);
    assert_eq!(fields(read.request_headers.add()), ["x-empty="]);
    assert_eq!(read.request_headers.remove(), ["authorization", "x-debug", "x-more"]);
    assert_eq!(fields(read.response_headers.set()), ["x-frame-options=DENY"]);
    assert_eq!(read.response_headers.remove(), ["server", "strict-transport-security"]);
}

#[test]
fn names_that_frame_or_that_are_ours_close_their_ingress() {
    let names = [
        "host",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "trailer",
        "proxy-authorization",
        "whygate-request-id",
        "keep-alive",
    ];
    for name in names {
        for key in ["request-headers-set", "request-headers-add", "response-headers-add"] {
            check_closed(&[(key, &format!("{name}: x"))], key, "frames the message");
        }
        for key in ["request-headers-remove", "response-headers-remove"] {
            check_closed(&[(key, name)], key, "frames the message");
        }
    }
    for name in
        ["x-forwarded-for", "X-Forwarded-Anything", "forwarded", "x-real-ip", "via", "x-request-id"]
    {
        check_closed(
            &[("request-headers-set", &format!("{name}: x"))],
            "request-headers-set",
            "frames",
        );
        check_closed(&[("request-headers-remove", name)], "request-headers-remove", "frames");
    }
    for name in ["authorization", "Cookie", "x-api-key", "x-http-method-override", "x-original-url"]
    {
        let key = "request-headers-add";
        check_closed(&[(key, &format!("{name}: x"))], key, "stands for what was judged");
    }
    for name in ["strict-transport-security", "access-control-allow-origin"] {
        let key = "response-headers-set";
        check_closed(&[(key, &format!("{name}: x"))], key, "annotations of its own");
    }
}

#[test]
fn no_value_of_a_header_field_ends_its_line_or_hides_something() {
    let key = "request-headers-set";
    for value in ["x: a\rb", "x: a\u{0}b", "x: \u{7f}", "x: é", "x: a\tb", "x: a\u{2028}y: b"] {
        check_closed(&[(key, value)], key, "other characters than printable ASCII");
    }
    check_closed(&[(key, &format!("x: {}", "a".repeat(4_097)))], key, "or too many");
    for value in ["", "\n", "x", "= a"] {
        let problem =
            if value.trim().is_empty() { "names no header" } else { "is not a header field" };
        check_closed(&[(key, value)], key, problem);
    }
    for value in ["x_team: a", "x team: a", ": a", "x\u{e9}: a", "x-a\r: b"] {
        check_closed(&[(key, value)], key, "is not the name of a header field");
    }
    let many = (0..33).map(|number| format!("x-{number}: a")).collect::<Vec<_>>().join("\n");
    check_closed(&[(key, &many)], key, "it has 33 header fields");
}

#[test]
fn each_field_of_an_annotation_that_cannot_be_read_is_told() {
    for (key, value) in [
        ("request-headers-set", "x_a: 1\nx-b: 2\nhost: 3\nnothing"),
        ("response-headers-remove", "x_a, x-b, via x, y\u{e9}"),
        ("cors-headers", "x a, x-b, y b, z c"),
    ] {
        let cors = ("cors-origins", "*");
        let world = super::annotated(&[(key, value), cors]);
        assert_eq!(world.findings().len(), 3, "{key}: {:#?}", world.findings());
    }
    let many = "x_a: 1\n".repeat(100_000);
    let world = super::annotated(&[("request-headers-set", &many)]);
    assert_eq!(world.findings().len(), 1, "one problem is told once");
}

#[test]
fn hsts_has_an_age_and_each_directive_once() {
    let value = |text| {
        let read = options(&[("hsts", text)]);
        read.hsts.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    for (text, expected) in [
        ("max-age=0", "max-age=0"),
        (
            "preload;INCLUDESUBDOMAINS ; Max-Age=63072000",
            "max-age=63072000; includeSubDomains; preload",
        ),
    ] {
        assert_eq!(value(text).as_deref(), Some(expected));
    }
    for text in [
        "",
        "true",
        "includeSubDomains",
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=+1",
        "max-age=1;",
        "max-age=1; max-age=2",
        "max-age=1, preload",
        "max-age=\"1\"",
        "max-age=1\r\nx: y",
        "max-age=99999999999",
    ] {
        check_closed(&[("hsts", text)], "hsts", "is not a value of HSTS");
    }
}
