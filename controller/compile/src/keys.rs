//! Key sets of token issuers: written in the policy, or in a Secret of its namespace.

use std::{collections::HashMap, sync::Arc};

use crds::{AccessPolicySpec, Jwks, JwtProvider, SecretKeyRef};
use decision::{
    lack::Lack,
    refs::{Kind, ResourceRef},
    token::{Audiences, KeySet, Provider},
};
use jsonwebtoken::Algorithm;
use k8s_openapi::api::core::v1::Secret;

use crate::{finding::Problem, index::Index};

/// The label without which a Secret is never read for its content.
pub const USE_LABEL: &str = "whygate.dev/use";

/// The providers of a policy by name.
///
/// A key set in the policy that cannot be read is a problem of the policy. One in a Secret makes
/// the checks of the provider unknown.
pub(crate) fn providers(
    policy: &ResourceRef,
    spec: &AccessPolicySpec,
    index: &Index<'_>,
    problems: &mut Vec<Problem>,
    unresolved: &mut Vec<Problem>,
) -> HashMap<String, Arc<Provider>> {
    let mut providers = HashMap::new();
    for (position, raw) in spec.jwt_providers.iter().enumerate() {
        let field = format!("spec.jwtProviders[{position}]");
        if raw.audiences.is_empty() != raw.any_audience {
            problems.push(Problem::new(
                format!("{field}.audiences"),
                "the audiences are either listed, or any with `anyAudience: true`",
                "List who tokens must be for in `audiences`.",
            ));
        }
        let algorithms: Box<[_]> = raw.algorithms.iter().map(|one| algorithm(*one)).collect();
        let keys = match &raw.jwks {
            Jwks::Inline(text) => KeySet::from_jwks(text, &algorithms).map_err(|problem| {
                let remedy = "Put the issuer's JSON Web Key Set there, with public keys only.";
                problems.push(Problem::new(format!("{field}.jwks.inline"), &*problem, remedy));
                (policy.clone(), Lack { problem: problem.into(), remedy: remedy.into() })
            }),
            Jwks::SecretRef(reference) => from_secret(policy, reference, &algorithms, index)
                .map_err(|(secret, problem, remedy)| {
                    let message = format!("{secret}: {problem}");
                    let field = format!("{field}.jwks.secretRef");
                    let lack = Lack { problem: problem.into(), remedy: remedy.as_str().into() };
                    unresolved.push(Problem::new(field, message, remedy));
                    (secret, lack)
                }),
        };
        let provider = Arc::new(provider(raw, algorithms, keys));
        if providers.insert(raw.name.clone(), provider).is_some() {
            problems.push(Problem::new(
                format!("{field}.name"),
                format!("`{}` is the name of another provider", raw.name),
                "Give every provider a name of its own.",
            ));
        }
    }
    providers
}

fn provider(
    raw: &JwtProvider,
    algorithms: Box<[Algorithm]>,
    keys: Result<KeySet, (ResourceRef, Lack)>,
) -> Provider {
    let audiences = raw.audiences.iter().map(|audience| audience.as_str().into());
    Provider {
        name: raw.name.as_str().into(),
        issuer: raw.issuer.as_str().into(),
        audiences: if raw.any_audience {
            Audiences::Any
        } else {
            Audiences::OneOf(audiences.collect())
        },
        algorithms,
        skew: raw.clock_skew,
        keys,
    }
}

fn algorithm(raw: crds::Algorithm) -> Algorithm {
    match raw {
        crds::Algorithm::RS256 => Algorithm::RS256,
        crds::Algorithm::RS384 => Algorithm::RS384,
        crds::Algorithm::RS512 => Algorithm::RS512,
        crds::Algorithm::PS256 => Algorithm::PS256,
        crds::Algorithm::PS384 => Algorithm::PS384,
        crds::Algorithm::PS512 => Algorithm::PS512,
        crds::Algorithm::ES256 => Algorithm::ES256,
        crds::Algorithm::ES384 => Algorithm::ES384,
        crds::Algorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// A Secret, what is wrong with it, and what to do.
type SecretProblem = (ResourceRef, String, String);

fn from_secret(
    policy: &ResourceRef,
    reference: &SecretKeyRef,
    algorithms: &[Algorithm],
    index: &Index<'_>,
) -> Result<KeySet, SecretProblem> {
    let namespace = &policy.namespace;
    let resource = ResourceRef::new(Kind::Secret, Arc::clone(namespace), reference.name.as_str());
    let problem = |problem: &str, remedy: String| (resource.clone(), problem.to_owned(), remedy);
    let Some(secret) = index.secrets.get(&(&**namespace, reference.name.as_str())) else {
        let name = (&**namespace, reference.name.as_str());
        return Err(if let Some(surplus) = index.surplus_of(Kind::Secret, name) {
            problem(&surplus.message, surplus.remedy)
        } else if let Some((unread, remedy)) = index.unread_secret(namespace) {
            problem(&unread, remedy)
        } else {
            let remedy = format!(
                "Create the Secret with the label `{USE_LABEL}`; without the label it is not read."
            );
            problem("it does not exist, or it has no label `whygate.dev/use`", remedy)
        });
    };
    if !is_labelled(secret) {
        let remedy = format!("Add the label `{USE_LABEL}: jwks` to the Secret.");
        return Err(problem("it has no label `whygate.dev/use`", remedy));
    }
    let data = secret.data.as_ref().and_then(|data| data.get(&reference.key));
    let Some(data) = data else {
        let remedy = format!("Put the key set into the Secret under `{}`.", reference.key);
        return Err(problem(&format!("it has no key `{}`", reference.key), remedy));
    };
    let text = std::str::from_utf8(&data.0).map_err(|_| "is not UTF-8 text".to_owned());
    text.and_then(|text| KeySet::from_jwks(text, algorithms)).map_err(|error| {
        let remedy = format!("Put the issuer's JSON Web Key Set there under `{}`.", reference.key);
        problem(&format!("`{}`: {error}", reference.key), remedy)
    })
}

/// Whether a Secret is for us to read, apart from those of certificates.
pub(crate) fn is_labelled(secret: &Secret) -> bool {
    secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(USE_LABEL))
}
