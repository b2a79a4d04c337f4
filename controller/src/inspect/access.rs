//! Who may look: everybody on loopback of a developer's machine, in a cluster whoever may list
//! policies in all namespaces.

use axum::http::{HeaderValue, StatusCode};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        SubjectAccessReview, SubjectAccessReviewSpec,
    },
};
use kube::{Api, Client, api::PostParams};

/// Who may ask.
#[derive(Clone)]
pub enum Access {
    /// Everybody who reaches the port.
    Everybody,
    /// Bearers of a token that may list `AccessPolicies` in all namespaces.
    Token(Client),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Everybody => "Everybody",
            Self::Token(_) => "Token(..)",
        })
    }
}

type Refusal = (StatusCode, &'static str);

const UNREACHABLE: Refusal =
    (StatusCode::SERVICE_UNAVAILABLE, "the API server cannot be asked about the token now");

impl Access {
    /// Whether a request with this `authorization` may see the page.
    ///
    /// # Errors
    /// Status and sentence of the refusal.
    pub async fn admits(&self, authorization: Option<&HeaderValue>) -> Result<(), Refusal> {
        let Self::Token(client) = self else { return Ok(()) };
        let token = authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or((StatusCode::UNAUTHORIZED, "send a bearer token of the cluster"))?;
        let user = review(client, token).await?;
        may_list(client, user).await
    }
}

async fn review(client: &Client, token: &str) -> Result<UserInfo, Refusal> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviews: Api<TokenReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|_| UNREACHABLE)?;
    let status = answer.status.unwrap_or_default();
    let user = status.user.filter(|_| status.authenticated == Some(true));
    user.ok_or((StatusCode::UNAUTHORIZED, "the API server does not know this token"))
}

async fn may_list(client: &Client, user: UserInfo) -> Result<(), Refusal> {
    let extra = user.extra;
    let spec = SubjectAccessReviewSpec {
        extra,
        groups: user.groups,
        uid: user.uid,
        user: user.username,
        resource_attributes: Some(ResourceAttributes {
            group: Some("whygate.dev".to_owned()),
            resource: Some("accesspolicies".to_owned()),
            verb: Some("list".to_owned()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.map_err(|_| UNREACHABLE)?;
    if answer.status.is_some_and(|status| status.allowed) {
        return Ok(());
    }
    let sentence = "the token's bearer may not list accesspolicies in all namespaces; grant that";
    Err((StatusCode::FORBIDDEN, sentence))
}

/// The right that is missing to review tokens, if one is.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn missing_right(client: &Client) -> kube::Result<Option<&'static str>> {
    let wanted = [
        ("authentication.k8s.io", "tokenreviews", "create tokenreviews (authentication.k8s.io)"),
        (
            "authorization.k8s.io",
            "subjectaccessreviews",
            "create subjectaccessreviews (authorization.k8s.io)",
        ),
    ];
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    for (group, resource, name) in wanted {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some("create".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
