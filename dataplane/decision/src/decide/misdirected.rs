//! Requests on connections that were opened for something else.

use crate::{
    canonical::{CanonicalRequest, Scheme},
    certificate::Shown,
    denial::{Denial, DenialReason, Misdirection},
    snapshot::Snapshot,
};

/// A request on a connection that was opened for something else (RFC 9110 section 15.5.20): a host of
/// another namespace, or one whose clients are asked for other certificates, or for none.
pub(super) fn misdirected(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Denial> {
    let line = request.line();
    let cause =
        of_another_owner(snapshot, request).or_else(|| asked_otherwise(snapshot, request))?;
    let (sni, host) = (line.connection.sni.clone(), line.host.clone());
    Some(Denial::of_request(DenialReason::MisdirectedRequest { sni, host, cause }))
}

/// A handshake without a name, or with one that no Ingress names, got the default certificate and
/// was opened for no namespace in particular: every host may be asked on it.
fn of_another_owner(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Misdirection> {
    let line = request.line();
    let sni = line.connection.sni.as_ref().filter(|sni| **sni != line.host)?;
    let owners = (snapshot.routes.owner(sni)?, snapshot.routes.owner(&line.host)?);
    (owners.0 != owners.1).then_some(Misdirection::Namespace)
}

/// A client has one certificate for a connection, and was asked for it, or not, for the host of the
/// handshake: a browser would otherwise show the wrong one to a host that shares the connection. Where
/// nobody asks, this costs nothing.
fn asked_otherwise(snapshot: &Snapshot, request: &CanonicalRequest) -> Option<Misdirection> {
    let (routes, line) = (&snapshot.routes, request.line());
    let connection = &line.connection;
    if !routes.asks_for_certificates() || connection.scheme == Scheme::Http {
        return None;
    }
    let (wanted, sni) = (routes.certificate_authorities(Some(&line.host)), connection.sni.as_ref());
    if sni != Some(&line.host) && wanted != routes.certificate_authorities(sni) {
        return Some(Misdirection::Certificate);
    }
    // Policies changed since, and a handshake is not repeated.
    let was_asked = !matches!(connection.certificate, Shown::NotAsked);
    (!wanted.is_empty() && !was_asked).then_some(Misdirection::NotAsked)
}
