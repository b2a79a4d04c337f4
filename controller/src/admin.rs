//! The admin port: `/livez`, `/readyz`, `/metrics`, and nothing else, so any pod may read it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak, atomic::AtomicU64},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use dataplane::{BindError, Dataplane};
use prometheus_client::{
    encoding::text::encode_registry,
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::{denials::collect::Counts, expiry::Expiries, pulse::Watches, supervise::Health};

/// What is still missing before traffic may come, by topic.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// Something is missing, in one sentence.
    pub fn lacks(&self, topic: &str, sentence: impl Into<String>) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.insert(topic.to_owned(), sentence.into());
    }

    /// It is there.
    pub fn has(&self, topic: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Everything that is missing.
    pub fn missing(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What the admin port tells of.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    /// What is missing.
    pub readiness: Readiness,
    /// Which tasks fail.
    pub health: Health,
    /// Counters of the Events.
    pub events: Counts,
    /// Problems in manifests.
    pub findings: Gauge,
    /// How long the newest snapshot took to compile, in seconds.
    pub compile_seconds: Gauge<f64, AtomicU64>,
    /// Compilations that began before the one before had rested.
    pub compiles_hurried: Counter,
    /// Watches that ended with an error.
    pub watch_errors: Counter,
    /// When certificates expire.
    pub expiries: Expiries,
    /// When each watch last heard from the API server.
    pub watches: Watches,
    /// Deletions that were ignored because the definition itself is being deleted.
    pub deletions_ignored: Counter,
    /// Objects that stay in force though their definition was removed.
    pub orphans: Gauge,
    /// The data plane, once there is one.
    pub dataplane: Arc<OnceLock<Weak<Dataplane>>>,
}

/// Why a port for people and programs cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {source}")]
pub struct ListenError {
    pub(crate) flag: &'static str,
    pub(crate) source: BindError,
}

/// Binds a port of ours. A machine without IPv6 gets the IPv4 form of `[::]`.
///
/// # Errors
/// If the address cannot be bound.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    let without_ipv6 = address.is_ipv6() && address.ip().is_unspecified();
    let bound = match bound {
        Err(error) if without_ipv6 && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(("0.0.0.0", address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|source| ListenError { flag, source: explain(address, source) })
}

fn explain(address: SocketAddr, source: io::Error) -> BindError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return BindError::InUse { address };
    }
    if source.kind() == io::ErrorKind::PermissionDenied {
        return BindError::Forbidden { address };
    }
    BindError::Other { address, source }
}

impl Admin {
    /// The pages.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/livez", get(live))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }

    fn dataplane(&self) -> Option<Arc<Dataplane>> {
        self.dataplane.get().and_then(Weak::upgrade)
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        if let Some(dataplane) = self.dataplane() {
            dataplane.metrics().encode(&mut text);
        }
        let mut registry = Registry::with_prefix("whygate");
        let events = &self.events;
        registry.register("events_written", "Events written", events.written.clone());
        registry.register("events_failed", "Writes of Events that failed", events.failed.clone());
        registry.register("events_waiting", "Events without budget", events.waiting.clone());
        registry.register("denial_groups", "Groups of equal refusals", events.groups.clone());
        registry.register("findings", "Problems in manifests", self.findings.clone());
        registry.register(
            "compile_seconds",
            "Time to compile the newest snapshot",
            self.compile_seconds.clone(),
        );
        registry.register(
            "compiles_hurried",
            "Compilations that began early, so that no change waits longer than half a second",
            self.compiles_hurried.clone(),
        );
        registry.register("watch_errors", "Watches that ended early", self.watch_errors.clone());
        registry.register(
            "orphaned_objects",
            "Objects in force that vanished with their definition and were not applied again",
            self.orphans.clone(),
        );
        registry.register(
            "deletions_ignored",
            "Deletions that came from the removal of a definition",
            self.deletions_ignored.clone(),
        );
        registry.register_collector(Box::new(self.watches.clone()));
        registry.register_collector(Box::new(self.expiries.clone()));
        // Writing to a String cannot fail.
        let _ = encode_registry(&mut text, &registry);
        let _ = writeln!(text, "# EOF");
        text
    }
}

async fn live(State(admin): State<Admin>) -> impl IntoResponse {
    let failing = admin.health.failing();
    let threads = admin.dataplane().is_none_or(|dataplane| dataplane.alive());
    if failing.is_empty() && threads {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut text = String::new();
    for task in failing {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "task `{task}` keeps failing");
    }
    if !threads {
        text.push_str(
            "a data thread has died or stands still: this process has to be started anew, which a liveness probe does\n",
        );
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, OPEN_METRICS)], admin.metrics())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_stands_in_the_page() {
        let page = include_str!("../docs/observability.md");
        let text = Admin::default().metrics();
        let described: Vec<_> = text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).collect();
        assert!(described.len() > 10, "{described:#?}");
        for line in described {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            assert!(page.contains(&format!("`{name}{total}`")), "{name}{total}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_like_one_for_traffic() {
        let taken = bind("--admin-listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let said = bind("--admin-listen", address).await.unwrap_err().to_string();
        let traffic = BindError::InUse { address };
        assert_eq!(said, format!("--admin-listen: {traffic}"));
    }
}
