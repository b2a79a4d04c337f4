//! Good tokens are accepted, and each thing that can be wrong with one has its code.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::Arc,
};

use decision::{
    check::{
        Check, Demand, Evidence, Facts, Outcome,
        token::{ClaimDemand, ClaimTest, TokenCheck},
    },
    claims::{Claims, Json},
    code::Code,
    denial::DenialReason,
    refs::{Kind, Site},
    subscription::Subscriptions,
    time::Timestamp,
    token::{Algorithm, Audiences, KeySet, NoTokens, VerifiedTokens},
};
use http::{HeaderValue, Method};

use crate::{
    signer::{EC, ED, RSA, Signer},
    world::{ISSUER, NOW, PEERS, provider, read, resource, token_check},
};

/// A payload that passes, `more` behind its claims.
pub(crate) fn payload(more: &str) -> String {
    format!(r#"{{"iss":"{ISSUER}","aud":["other","shop"],"exp":{}{more}}}"#, NOW.0 + 60)
}

pub(crate) fn key_set(keys: &[String]) -> KeySet {
    let text = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let algorithms = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    KeySet::from_jwks(&text, &algorithms).unwrap()
}

/// A check whose provider has the public key of one signer.
pub(crate) fn check_of(signer: &Signer) -> TokenCheck {
    token_check(provider(Ok(key_set(&[signer.jwk("")]))), &[])
}

pub(crate) fn judged(
    check: TokenCheck,
    authorization: &str,
    tokens: &dyn VerifiedTokens,
    now: Timestamp,
) -> Outcome {
    let value = HeaderValue::from_bytes(authorization.as_bytes()).unwrap();
    let request = read(PEERS[0], &Method::GET, "/", [("authorization", value)]);
    let policy = resource(Kind::AccessPolicy, "office");
    let site = Site { policy, rule: "token".into(), field: "spec.require[0].jwt".into() };
    let check = Check { site: Arc::new(site), demand: Demand::Token(check) };
    let subscriptions = Subscriptions::default();
    let request = &request;
    check.judge(Facts {
        request,
        now,
        tokens,
        subscriptions: &subscriptions,
        preflight: false,
        refused: false,
        remembered: None,
        recording: None,
    })
}

/// The code of a refusal; none if the token is accepted.
pub(crate) fn code(check: TokenCheck, token: &str) -> Option<Code> {
    reason(judged(check, &format!("Bearer {token}"), &NoTokens, NOW)).map(|reason| reason.code())
}

pub(crate) fn reason(outcome: Outcome) -> Option<DenialReason> {
    match outcome {
        Outcome::Met(evidence) => {
            assert_eq!(evidence, Evidence::Token);
            None
        }
        Outcome::Unmet(reason) | Outcome::Unknown(reason) => Some(*reason),
        Outcome::NotJudged => panic!("nothing refused the request before"),
    }
}

/// Remembers every token, and how often it was asked for one that it knew.
#[derive(Default)]
struct Memory {
    known: RefCell<HashMap<(u64, String), Arc<Claims>>>,
    hits: Cell<usize>,
}

impl VerifiedTokens for Memory {
    fn get(&self, generation: u64, token: &str) -> Option<Arc<Claims>> {
        let found = self.known.borrow().get(&(generation, token.into())).cloned();
        self.hits.set(self.hits.get() + usize::from(found.is_some()));
        found
    }

    fn insert(&self, generation: u64, token: &str, claims: &Arc<Claims>) {
        self.known.borrow_mut().insert((generation, token.into()), Arc::clone(claims));
    }
}

#[test]
fn a_good_token_of_each_kind_of_key_is_accepted() {
    for signer in [&*RSA, &*EC, &*ED] {
        assert_eq!(code(check_of(signer), &signer.token(&payload(""))), None);
    }
}

#[test]
fn the_scheme_is_read_in_any_case_and_another_scheme_is_no_token() {
    let token = ED.token(&payload(""));
    let judge = |value: &str| reason(judged(check_of(&ED), value, &NoTokens, NOW));
    assert_eq!(judge(&format!("bEARER   {token}")), None);
    let missing = Some(DenialReason::TokenMissing { provider: "id".into(), or_key: false });
    for value in [format!("Basic {token}"), token.clone(), "Bearer".into(), String::new()] {
        assert_eq!(judge(&value), missing, "{value}");
    }
}

#[test]
fn time_is_judged_with_the_skew_and_not_a_second_more() {
    let with = |claims: &str| {
        let payload = format!(r#"{{"iss":"{ISSUER}","aud":"shop",{claims}}}"#);
        code(check_of(&ED), &ED.token(&payload))
    };
    let now = NOW.0;
    assert_eq!(with(&format!(r#""exp":{}"#, now - 29)), None);
    assert_eq!(with(&format!(r#""exp":{}"#, now - 30)), Some(Code::TokenExpired));
    assert_eq!(with(&format!(r#""exp":{}.5"#, now - 30)), Some(Code::TokenExpired));
    assert_eq!(with(&format!(r#""exp":{},"nbf":{}"#, now + 9, now + 30)), None);
    let early = with(&format!(r#""exp":{},"nbf":{}"#, now + 9, now + 31));
    assert_eq!(early, Some(Code::TokenNotYetValid));
    assert_eq!(with(r#""nbf":1"#), Some(Code::TokenMalformed));
    assert_eq!(with(r#""exp":"9999999999""#), Some(Code::TokenMalformed));
    assert_eq!(with(r#""exp":null"#), Some(Code::TokenMalformed));
    assert_eq!(with(r#""exp":9223372036854775807"#), None);
    assert_eq!(with(r#""exp":-9223372036854775808"#), Some(Code::TokenExpired));
}

#[test]
fn issuer_and_audience_are_compared_character_by_character() {
    let with = |claims: &str| {
        let payload = format!(r#"{{{claims},"exp":{}}}"#, NOW.0 + 60);
        code(check_of(&ED), &ED.token(&payload))
    };
    let issued = |audience: &str| with(&format!(r#""iss":"{ISSUER}","aud":{audience}"#));
    assert_eq!(issued(r#""shop""#), None);
    assert_eq!(issued(r#"["shop"]"#), None);
    assert_eq!(issued(r#""Shop""#), Some(Code::TokenAudienceMismatch));
    assert_eq!(issued("[]"), Some(Code::TokenAudienceMismatch));
    assert_eq!(issued(r#""shop other""#), Some(Code::TokenAudienceMismatch));
    assert_eq!(issued(r#"["shop",1]"#), Some(Code::TokenMalformed));
    assert_eq!(issued("1"), Some(Code::TokenMalformed));
    assert_eq!(with(&format!(r#""iss":"{ISSUER}""#)), Some(Code::TokenAudienceMismatch));
    assert_eq!(
        with(&format!(r#""iss":"{ISSUER}/","aud":"shop""#)),
        Some(Code::TokenIssuerMismatch)
    );
    assert_eq!(with(&format!(r#""iss":["{ISSUER}"],"aud":"shop""#)), Some(Code::TokenMalformed));
    assert_eq!(with(r#""aud":"shop""#), Some(Code::TokenIssuerMismatch));
}

#[test]
fn any_audience_is_accepted_only_where_that_is_spelled_out() {
    let check = || {
        let mut provider = provider(Ok(key_set(&[ED.jwk("")])));
        provider.audiences = Audiences::Any;
        token_check(provider, &[])
    };
    let with = |audience: &str| {
        let expiry = NOW.0 + 60;
        let payload = format!(r#"{{"iss":"{ISSUER}","exp":{expiry}{audience}}}"#);
        code(check(), &ED.token(&payload))
    };
    assert_eq!(with(""), None);
    assert_eq!(with(r#","aud":"anybody""#), None);
    assert_eq!(with(r#","aud":7"#), Some(Code::TokenMalformed));
}

#[test]
fn scopes_are_whole_words_of_scope_or_else_of_scp() {
    let with = |all: &[&str], any: &[&str], claims: &str| {
        let mut check = check_of(&ED);
        check.scopes_all = all.iter().map(|scope| Arc::from(*scope)).collect();
        check.scopes_any = any.iter().map(|scope| Arc::from(*scope)).collect();
        code(check, &ED.token(&payload(claims)))
    };
    assert_eq!(with(&["a", "b"], &["x", "c"], r#","scope":"a b  c""#), None);
    assert_eq!(with(&["a"], &[], r#","scp":["a","b"]"#), None);
    assert_eq!(with(&["a"], &[], r#","scp":"a b""#), None);
    for claims in ["", r#","scope":"ab""#, r#","scope":"","scp":["a"]"#, r#","scp":["a b"]"#] {
        assert_eq!(with(&["a"], &[], claims), Some(Code::TokenScopeMissing), "{claims}");
    }
    assert_eq!(with(&["a"], &["x"], r#","scope":"a""#), Some(Code::TokenScopeMissing));
    assert_eq!(with(&["a"], &[], r#","scope":["a"]"#), Some(Code::TokenMalformed));
    assert_eq!(with(&["a"], &[], r#","scp":["a",1]"#), Some(Code::TokenMalformed));
}

#[test]
fn a_claim_is_compared_without_any_conversion() {
    let with = |path: &str, test: ClaimTest, claims: &str| {
        let mut check = check_of(&ED);
        check.claims = [ClaimDemand { path: path.into(), test }].into();
        let outcome =
            judged(check, &format!("Bearer {}", ED.token(&payload(claims))), &NoTokens, NOW);
        reason(outcome).map(|reason| {
            let DenialReason::TokenClaimMismatch { found, .. } = reason else {
                panic!("{reason:?}")
            };
            found
        })
    };
    let contains = || ClaimTest::Contains("partner".into());
    let roles = r#","realm":{"roles":["user","partner"]}"#;
    assert_eq!(with("realm.roles", contains(), roles), None);
    assert_eq!(with("realm.rights", contains(), roles), Some("absent"));
    assert_eq!(with("realm", contains(), roles), Some("of another type"));
    assert_eq!(with("r", contains(), r#","r":"partner""#), None);
    assert_eq!(with("r", contains(), r#","r":"user partner""#), Some("of another value"));
    assert_eq!(with("r", contains(), r#","r":"partners""#), Some("of another value"));
    let one = || ClaimTest::Equals(Json::parse(b"1").unwrap());
    assert_eq!(with("tier", one(), r#","tier":1"#), None);
    assert_eq!(with("tier", one(), r#","tier":"1""#), Some("of another type"));
    assert_eq!(with("tier", one(), r#","tier":2"#), Some("of another value"));
    let either = || ClaimTest::OneOf(["eu".into(), "us".into()].into());
    assert_eq!(with("region", either(), r#","region":"us""#), None);
    assert_eq!(with("region", either(), r#","region":"u""#), Some("of another value"));
}

#[test]
fn a_remembered_token_is_judged_anew_in_everything_but_its_signature() {
    let memory = Memory::default();
    let authorization = format!("Bearer {}", ED.token(&payload(r#","scope":"read""#)));
    let judge = |check, now| {
        reason(judged(check, &authorization, &memory, now)).map(|reason| reason.code())
    };
    assert_eq!((judge(check_of(&ED), NOW), memory.hits.get()), (None, 0));
    assert_eq!((judge(check_of(&ED), NOW), memory.hits.get()), (None, 1));
    let later = Timestamp(NOW.0 + 90);
    assert_eq!((judge(check_of(&ED), later), memory.hits.get()), (Some(Code::TokenExpired), 2));
    let mut scoped = check_of(&ED);
    scoped.scopes_all = ["write".into()].into();
    assert_eq!((judge(scoped, NOW), memory.hits.get()), (Some(Code::TokenScopeMissing), 3));
    let mut moved = provider(Ok(key_set(&[ED.jwk("")])));
    moved.issuer = "https://other.example.com".into();
    let code = judge(token_check(moved, &[]), NOW);
    assert_eq!((code, memory.hits.get()), (Some(Code::TokenIssuerMismatch), 4));
}

#[test]
fn a_token_is_forgotten_with_the_key_set_that_verified_it() {
    let memory = Memory::default();
    let authorization = format!("Bearer {}", ED.token(&payload("")));
    let judge =
        |check| reason(judged(check, &authorization, &memory, NOW)).map(|reason| reason.code());
    assert_eq!(judge(check_of(&ED)), None);
    assert_eq!(judge(check_of(&crate::signer::ed())), Some(Code::TokenSignatureInvalid));
    assert_eq!(memory.hits.get(), 0);
}

#[test]
fn a_token_that_was_not_verified_is_not_remembered() {
    let memory = Memory::default();
    let other = crate::signer::ed();
    let authorization = format!("Bearer {}", other.token(&payload("")));
    assert!(reason(judged(check_of(&ED), &authorization, &memory, NOW)).is_some());
    assert!(memory.known.borrow().is_empty());
}

#[test]
fn without_keys_a_token_is_unknown_and_one_that_cannot_be_good_is_not() {
    let lost = || {
        let problem = (resource(Kind::Secret, "jwks"), crate::world::lost());
        token_check(provider(Err(problem)), &[])
    };
    let good = format!("Bearer {}", ED.token(&payload("")));
    assert!(matches!(judged(lost(), &good, &NoTokens, NOW), Outcome::Unknown(_)));
    let late = judged(lost(), &good, &NoTokens, Timestamp(NOW.0 + 600));
    assert!(matches!(late, Outcome::Unmet(_)));
}

#[test]
fn no_text_for_debugging_shows_a_credential() {
    let token = ED.token(&payload(""));
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let key = HeaderValue::from_static("wg_secret");
    let request =
        read(PEERS[0], &Method::GET, "/", [("authorization", bearer), ("x_api-key", key)]);
    let shown = format!("{request:?} {:?}", check_of(&ED));
    assert!(!shown.contains(&token) && !shown.contains("wg_secret"), "{shown}");
}
