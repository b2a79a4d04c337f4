//! Forged tokens: what is known to have worked elsewhere is refused here.

use decision::{
    code::Code,
    token::{Algorithm, KeySet, VerificationKey},
};
use http::HeaderValue;
use jsonwebtoken::DecodingKey;
use proptest::prelude::*;

use crate::{
    signer::{EC, ED, RSA, ed, encode, hmac_token},
    tokens::{check_of, code, judged, key_set, payload, reason},
    world::{NOW, provider, token_check},
};

proptest! {
    #[test]
    fn a_token_with_one_byte_changed_is_never_accepted(at in any::<prop::sample::Index>(), by in 1..=255u8) {
        let token = ED.token(&payload(""));
        let mut bytes = token.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assume!(HeaderValue::from_bytes(&bytes).is_ok());
        let Ok(changed) = String::from_utf8(bytes) else { return Ok(()) };
        prop_assert!(code(check_of(&ED), &changed).is_some(), "{}", changed);
    }

    #[test]
    fn a_token_that_was_cut_or_grew_is_never_accepted(
        at in any::<prop::sample::Index>(), more in "[A-Za-z0-9._=-]{1,3}",
    ) {
        let token = EC.token(&payload(""));
        let at = at.index(token.len());
        let (start, end) = token.split_at(at);
        prop_assert!(code(check_of(&EC), start).is_some());
        let grown = format!("{start}{more}{end}");
        prop_assert!(code(check_of(&EC), &grown).is_some());
    }

    #[test]
    fn any_text_is_judged_and_none_is_accepted(text in "[ -~]{0,200}") {
        let outcome = judged(check_of(&ED), &format!("Bearer {text}"), &decision::token::NoTokens, NOW);
        prop_assert!(reason(outcome).is_some());
    }
}

#[test]
fn no_signature_is_no_signature_in_every_spelling() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let unsigned = format!("{}.{}.", encode(&header), encode(payload("")));
        assert_eq!(code(check_of(&ED), &unsigned), Some(Code::TokenAlgorithmNotAllowed), "{name}");
        let signed = ED.token_with(&header, &payload(""));
        assert_eq!(code(check_of(&ED), &signed), Some(Code::TokenAlgorithmNotAllowed), "{name}");
    }
}

#[test]
fn a_public_key_is_not_taken_for_a_secret() {
    let public = RSA.jwk("");
    for secret in [public.as_bytes(), b"", b"secret"] {
        for alg in ["HS256", "HS384", "HS512"] {
            let token = hmac_token(&format!(r#"{{"alg":"{alg}"}}"#), &payload(""), secret);
            assert_eq!(code(check_of(&RSA), &token), Some(Code::TokenAlgorithmNotAllowed));
        }
    }
}

#[test]
fn hmac_is_refused_even_where_somebody_configured_it() {
    let key = VerificationKey {
        id: None,
        algorithms: [Algorithm::HS256].into(),
        key: DecodingKey::from_secret(b"secret"),
    };
    let mut provider = provider(Ok(KeySet { generation: 1, keys: [key].into() }));
    provider.algorithms = [Algorithm::HS256].into();
    let token = hmac_token(r#"{"alg":"HS256"}"#, &payload(""), b"secret");
    assert_eq!(code(token_check(provider, &[]), &token), Some(Code::TokenAlgorithmNotAllowed));
}

#[test]
fn a_key_verifies_by_its_own_algorithms_only() {
    let mut provider = provider(Ok(key_set(&[RSA.jwk(r#","alg":"RS256""#)])));
    provider.algorithms = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256].into();
    let token = RSA.pss_token(&payload(""));
    assert_eq!(code(token_check(provider, &[]), &token), Some(Code::TokenKeyUnknown));
    let token = RSA.token_with(r#"{"alg":"ES256"}"#, &payload(""));
    assert_eq!(code(check_of(&RSA), &token), Some(Code::TokenKeyUnknown));
}

#[test]
fn the_header_selects_a_key_and_another_key_of_the_set_does_not_count() {
    let other = ed();
    let check = || {
        let keys = [ED.jwk(r#","kid":"one""#), other.jwk(r#","kid":"two""#)];
        token_check(provider(Ok(key_set(&keys))), &[])
    };
    let with = |key_id: &str| {
        let header = format!(r#"{{"alg":"EdDSA","kid":{key_id}}}"#);
        code(check(), &ED.token_with(&header, &payload("")))
    };
    assert_eq!(with(r#""one""#), None);
    assert_eq!(with(r#""two""#), Some(Code::TokenSignatureInvalid));
    assert_eq!(with(r#""three""#), Some(Code::TokenKeyUnknown));
    assert_eq!(with("1"), Some(Code::TokenMalformed));
    assert_eq!(code(check(), &ED.token(&payload(""))), Some(Code::TokenKeyUnknown));
}

#[test]
fn a_key_that_the_token_brings_along_is_not_believed() {
    let mine = ed();
    let key = mine.jwk("");
    let url = r#""jku":"https://evil.example.com/jwks","x5u":"https://evil.example.com/x5u""#;
    let header = format!(r#"{{"alg":"EdDSA","jwk":{key},{url},"x5c":["AAAA"]}}"#);
    let token = mine.token_with(&header, &payload(""));
    assert_eq!(code(check_of(&ED), &token), Some(Code::TokenSignatureInvalid));
}

#[test]
fn an_extension_that_nobody_understands_is_refused() {
    for critical in [r#"["b64"]"#, r#"["exp"]"#, "[]", "null"] {
        let header = format!(r#"{{"alg":"EdDSA","b64":true,"crit":{critical}}}"#);
        let token = ED.token_with(&header, &payload(""));
        assert_eq!(code(check_of(&ED), &token), Some(Code::TokenMalformed), "{critical}");
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let refused = Some(Code::TokenMalformed);
    for more in [r#","aud":"shop""#, r#","x":{"a":1,"a":2}"#, r#","\u0065xp":1"#] {
        assert_eq!(code(check_of(&ED), &ED.token(&payload(more))), refused, "{more}");
    }
    let header = r#"{"alg":"EdDSA","alg":"none"}"#;
    assert_eq!(code(check_of(&ED), &ED.token_with(header, &payload(""))), refused);
    for body in ["[]", "1", "\"x\"", "null", ""] {
        assert_eq!(code(check_of(&ED), &ED.token(body)), refused, "{body}");
    }
}

#[test]
fn base64_has_one_spelling() {
    let token = ED.token(&payload(""));
    let (message, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(code(check_of(&ED), &format!("{token}=")), Some(Code::TokenMalformed));
    // 64 bytes leave four unused bits in the last character: they must be zero.
    let (start, last) = signature.split_at(signature.len() - 1);
    let other = char::from(last.as_bytes()[0] + 1);
    assert_eq!(
        code(check_of(&ED), &format!("{message}.{start}{other}")),
        Some(Code::TokenMalformed)
    );
}

#[test]
fn a_token_above_the_limit_is_not_looked_at() {
    let long = ED.token(&payload(&format!(r#","x":"{}""#, "x".repeat(8_192))));
    assert_eq!(code(check_of(&ED), &long), Some(Code::TokenMalformed));
    let parts = ED.token(&payload(""));
    assert_eq!(code(check_of(&ED), &format!("{parts}.x.y")), Some(Code::TokenMalformed));
}
