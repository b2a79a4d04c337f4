//! The inspect port: `/snapshot`, what is in force now. It tells tenants' policies, so in a cluster
//! it asks for a token that may list them.

mod access;
mod view;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

pub use access::{Access, missing_right};

use crate::pipeline::Outcome;

/// What the inspect port tells of.
#[derive(Clone, Debug)]
pub struct Inspect {
    /// What is in force.
    pub outcome: watch::Receiver<Option<Arc<Outcome>>>,
    /// Who may ask.
    pub access: Access,
}

impl Inspect {
    /// The pages, behind their guards.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/snapshot", get(snapshot))
            .layer(middleware::from_fn_with_state(self.clone(), admit))
            .layer(middleware::from_fn(refuse_foreign))
            .with_state(self.clone())
    }
}

/// Whoever may list policies may see what they were compiled to.
async fn admit(State(inspect): State<Inspect>, request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).cloned();
    match inspect.access.admits(token.as_ref()).await {
        Ok(()) => next.run(request).await,
        Err((status, sentence)) => (status, format!("{sentence}\n")).into_response(),
    }
}

/// A page of another site must not read this one through a name that leads here (DNS rebinding).
async fn refuse_foreign(request: Request, next: Next) -> Response {
    if is_own(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "ask by `localhost` or by address, and from no other site\n")
        .into_response()
}

/// Whether the request names this port as nobody else's: an address or `localhost`, and no origin
/// but this one.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let local = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok();
    let origin = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin.to_str().is_ok_and(|origin| origin == format!("http://{host}")),
    };
    local && origin
}

async fn snapshot(State(inspect): State<Inspect>) -> Response {
    let outcome = inspect.outcome.borrow().clone();
    match outcome {
        Some(outcome) => Json(view::Snapshot::of(&outcome)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "there is no snapshot yet\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        is_own(&headers)
    }

    #[test]
    fn a_foreign_host_or_origin_is_refused() {
        for host in ["localhost", "localhost:9091", "127.0.0.1:9091", "[::1]:9091", "[::1]"] {
            assert!(check(host, None), "{host}");
        }
        for host in ["evil.example", "evil.example:9091", "localhost.evil.example", ""] {
            assert!(!check(host, None), "{host}");
        }
        assert!(check("localhost:9091", Some("http://localhost:9091")));
        assert!(!check("localhost:9091", Some("http://evil.example")));
        assert!(!check("localhost:9091", Some("null")));
    }
}
