//! How long an exchange waits for whom: as its route says, else as the flags do.

use std::time::Duration;

use decision::options::Options;

use crate::settings::Limits;

/// The time-outs of one exchange with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// For an endpoint to accept a connection.
    pub(crate) connect: Duration,
    /// For the head of its answer.
    pub(crate) first_byte: Duration,
    /// For the rest of either body, once the answer has begun.
    pub(crate) idle: Duration,
}

impl Waits {
    pub(crate) fn of(limits: &Limits, options: Option<&Options>) -> Self {
        let own = options.map(|options| options.timeouts).unwrap_or_default();
        Self {
            connect: own.connect.unwrap_or(limits.upstream_connect),
            first_byte: own.first_byte.unwrap_or(limits.upstream_first_byte),
            idle: own.idle.unwrap_or(limits.transfer_idle),
        }
    }

    /// Without any progress nothing legitimate takes longer than this. Each of two tries may wait for
    /// room, for another's connection and for its own.
    pub(crate) fn stall(&self, body_idle: Duration) -> Duration {
        self.idle.max(self.first_byte + 6 * self.connect + body_idle)
    }
}
