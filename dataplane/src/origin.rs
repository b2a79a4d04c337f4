//! The connection that requests come from, as far as they need to know it.

use std::rc::Rc;

use decision::canonical::Connection;

use crate::{forward::headers::Peer, progress::Progress};

/// What every request on a connection has in common.
pub(crate) struct Origin {
    pub(crate) connection: Connection,
    pub(crate) peer: Peer,
    pub(crate) progress: Rc<Progress>,
}
