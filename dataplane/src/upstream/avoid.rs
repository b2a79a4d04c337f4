//! The second try of a request does not go where the first one failed.

use std::rc::Rc;

use decision::transport::HttpVersion;
use tokio::time::Instant;

use super::sender::Streams;

/// Which open connections are not for a request, because it failed on one.
pub(super) enum Avoid {
    /// It has not failed, or elsewhere.
    Nothing,
    /// The one that refused it, and goes on with others.
    One(Rc<Streams>),
    /// All that are older than its failure: the endpoint closed one, and may have closed each.
    OpenedBefore(Instant),
}

impl Avoid {
    /// What a request that failed at one endpoint avoids at another. Connections of HTTP/2 are watched,
    /// so that those that are closed are known, nearly always; and where an endpoint fails, each
    /// request would open another.
    pub(super) fn elsewhere(http: HttpVersion) -> Self {
        match http {
            HttpVersion::One => Self::OpenedBefore(Instant::now()),
            HttpVersion::Two => Self::Nothing,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Whether this connection of HTTP/2 is one of them.
    pub(super) fn avoids(&self, streams: &Rc<Streams>, opened: Instant) -> bool {
        match self {
            Self::Nothing => false,
            Self::One(refusing) => Rc::ptr_eq(refusing, streams),
            Self::OpenedBefore(failed) => opened < *failed,
        }
    }
}
