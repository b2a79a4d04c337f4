//! Key sets: the keys that can verify are kept, all others are left out one by one.

use aws_lc_rs::rsa::KeySize;
use decision::token::{Algorithm, KEY_COUNT_LIMIT, KEY_SET_LIMIT, KeySet};

use crate::signer::{EC, ED, RSA, encode, rsa};

const ALL: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];

fn read(keys: &[String]) -> Result<KeySet, String> {
    KeySet::from_jwks(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")), &ALL)
}

#[test]
fn a_key_that_cannot_be_used_does_not_lose_the_others() {
    let odd = [
        r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#.into(),
        r#"{"kty":"new","x":"AAAA"}"#.into(),
        r#"{"kty":"EC","crv":"P-521","x":"AAAA","y":"AAAA"}"#.into(),
        r#"{"kty":"RSA","n":"%%","e":"AQAB"}"#.into(),
        r#"{"x":1}"#.into(),
        "7".into(),
        ED.jwk(r#","use":"enc""#),
        ED.jwk(r#","key_ops":["sign"]"#),
        ED.jwk(r#","alg":"ES256""#),
        ED.jwk(r#","alg":"X25519""#),
        ED.jwk(r#","kid":7"#),
    ];
    for key in &odd {
        assert!(read(std::slice::from_ref(key)).is_err(), "{key}");
    }
    let good = ED.jwk(r#","kid":"a","use":"sig","key_ops":["verify"],"alg":"Ed25519","x5c":7"#);
    let set = read(&[&odd[..], &[good, RSA.jwk(""), EC.jwk("")]].concat()).unwrap();
    let kept: Vec<_> = set.keys.iter().map(|key| (key.id.as_deref(), &*key.algorithms)).collect();
    let expected: [(_, &[Algorithm]); 3] = [
        (Some("a"), &[Algorithm::EdDSA]),
        (None, &[Algorithm::RS256, Algorithm::PS256]),
        (None, &[Algorithm::ES256]),
    ];
    assert_eq!(kept, expected);
}

#[test]
fn an_rsa_key_below_2048_bits_is_left_out() {
    let short = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, encode([0xff; 255]));
    assert!(read(&[short]).is_err());
    let padded =
        format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, encode([[0; 128], [0xff; 128]].concat()));
    assert!(read(&[padded]).is_err());
    assert!(read(&[rsa(KeySize::Rsa2048).jwk("")]).is_ok());
}

#[test]
fn a_point_that_is_not_on_the_curve_is_left_out() {
    let point = encode([7; 32]);
    let key = format!(r#"{{"kty":"EC","crv":"P-256","x":"{point}","y":"{point}"}}"#);
    assert!(read(&[key]).is_err());
}

#[test]
fn only_keys_of_accepted_algorithms_are_kept() {
    let text = format!(r#"{{"keys":[{}]}}"#, RSA.jwk(""));
    let set = |algorithms: &[Algorithm]| KeySet::from_jwks(&text, algorithms);
    assert_eq!(
        set(&[Algorithm::ES256, Algorithm::EdDSA]).unwrap_err(),
        "the key set has no key that can verify signatures by ES256, EdDSA"
    );
    assert!(set(&[]).is_err());
    let (one, two) = (set(&[Algorithm::RS256]).unwrap(), set(&ALL).unwrap());
    assert_ne!(one.generation, two.generation);
    assert_eq!(one.generation, set(&[Algorithm::RS256]).unwrap().generation);
}

#[test]
fn a_set_that_cannot_be_read_says_so_in_one_sentence() {
    let problem = |text: &str| KeySet::from_jwks(text, &ALL).unwrap_err();
    assert_eq!(problem("-----BEGIN PUBLIC KEY-----"), "the key set is not JSON");
    let shape = "the key set is not an object with a list `keys` (RFC 7517 section 5)";
    for text in ["[]", "{}", r#"{"keys":{}}"#, &ED.jwk("")] {
        assert_eq!(problem(text), shape, "{text}");
    }
    assert_eq!(
        problem(r#"{"keys":[],"keys":[]}"#),
        "the key set has an object with a name that occurs twice"
    );
    let long = " ".repeat(KEY_SET_LIMIT + 1);
    assert_eq!(problem(&long), "the key set is longer than 262144 bytes");
    let many = vec![ED.jwk(""); KEY_COUNT_LIMIT + 1];
    assert_eq!(read(&many).unwrap_err(), "the key set has more than 64 keys");
    assert!(read(&many[1..]).is_ok());
}
