//! The connection that requests come from, as far as they need to know it.

use std::{cell::Cell, rc::Rc};

use decision::{address::canonical, canonical::Connection, client::Remote};

use crate::{headers::Peer, progress::Progress, settings::Settings, tunnel::Tunnel};

/// What every request on a connection has in common.
pub(crate) struct Origin {
    pub(crate) connection: Connection,
    pub(crate) peer: Peer,
    /// The version of TLS, unless it is plain.
    pub(crate) tls: Option<&'static str>,
    pub(crate) progress: Rc<Progress>,
    /// What an HTTP/1.1 connection becomes once its last response was sent.
    pub(crate) tunnel: Cell<Option<Box<Tunnel>>>,
}

impl Origin {
    /// Whether what the peer says of others is believed.
    pub(crate) fn is_trusted(&self, settings: &Settings) -> bool {
        let trusted = &settings.address_source.trusted_proxies;
        match self.connection.remote {
            Remote::Hidden { .. } => false,
            Remote::Socket(peer) | Remote::Announced { client: peer, .. } => {
                trusted.contains(canonical(peer.ip()))
            }
        }
    }
}
