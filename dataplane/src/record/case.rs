//! What is remembered of one request until it is over.

use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use decision::{
    options::{Options, headers::Message},
    refs::RouteName,
    route::Route,
    trailers::TrailerEdits,
};
use http::StatusCode;
use tokio::time::Instant;

use crate::{
    access::{End, Outcome, Refusal, Target},
    facts::Witness,
    id::RequestId,
    manner::Manner,
    refused::Refused,
    trace::Trace,
};

/// What a record of a request is made of.
pub(crate) struct Case {
    pub(crate) id: RequestId,
    pub(crate) witness: Witness,
    /// When the last byte of its head was there, by both clocks.
    pub(crate) at: SystemTime,
    pub(crate) began: Instant,
    /// The version of TLS, unless it came in plain HTTP.
    tls: Option<&'static str>,
    pub(super) trace: Option<Trace>,
    found: OnceCell<Found>,
    manner: OnceCell<Manner>,
    pub(super) status: Cell<Option<StatusCode>>,
    pub(super) refused: OnceCell<Refused>,
    upstream: Cell<Option<SocketAddr>>,
    first_byte: Cell<Option<Duration>>,
    /// How much of its body came, if it has one.
    received: OnceCell<Rc<Cell<u64>>>,
    ending_is_told: Cell<bool>,
}

/// How a request came.
#[derive(Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) at: SystemTime,
    pub(crate) began: Instant,
    pub(crate) tls: Option<&'static str>,
    pub(crate) trace: Option<Trace>,
}

/// How an exchange ended.
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) duration: Duration,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// The route of a request.
pub(crate) enum Found {
    /// Of one that was admitted: the very reference that admitted it.
    Admitted(Arc<Route>),
    /// Of one that we answer ourselves.
    Named(Arc<RouteName>),
}

impl Case {
    pub(crate) fn new(id: RequestId, witness: Witness, arrived: Arrived) -> Self {
        let Arrived { at, began, tls, trace } = arrived;
        Self {
            id,
            witness,
            at,
            began,
            tls,
            trace,
            found: OnceCell::new(),
            manner: OnceCell::new(),
            status: Cell::new(None),
            refused: OnceCell::new(),
            upstream: Cell::new(None),
            first_byte: Cell::new(None),
            received: OnceCell::new(),
            ending_is_told: Cell::new(false),
        }
    }

    /// The same without anything that a snapshot or a connection's buffers would be kept for.
    pub(crate) fn detached(&self) -> Self {
        let found = self.route().map(|name| Found::Named(Arc::clone(name)));
        let Self { at, began, tls, trace, .. } = *self;
        let arrived = Arrived { at, began, tls, trace };
        Self {
            found: found.map_or_else(OnceCell::new, OnceCell::from),
            status: self.status.clone(),
            upstream: self.upstream.clone(),
            first_byte: self.first_byte.clone(),
            received: self.received.clone(),
            ..Self::new(self.id, self.witness.detached(), arrived)
        }
    }

    /// Remembers the route; the first one stays.
    pub(crate) fn found(&self, route: Found) {
        // A request is routed once, so there is nothing to replace.
        let _ = self.found.set(route);
    }

    pub(crate) fn route(&self) -> Option<&Arc<RouteName>> {
        self.found.get().map(|found| match found {
            Found::Admitted(route) => &route.name,
            Found::Named(name) => name,
        })
    }

    /// Remembers how the request is to be answered.
    pub(crate) fn answer_in(&self, manner: Manner) {
        // A request is judged once, so there is nothing to replace.
        let _ = self.manner.set(manner);
    }

    pub(crate) fn manner(&self) -> Option<&Manner> {
        self.manner.get()
    }

    /// Remembers what the client was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.status.set(Some(status));
    }

    /// Remembers why it was refused, or broke off; the first reason stays.
    pub(crate) fn refused(&self, refused: Refused) {
        // What comes later comes of it.
        let _ = self.refused.set(refused);
    }

    /// Remembers which endpoint was asked; the last one stays.
    pub(crate) fn asked(&self, upstream: SocketAddr) {
        self.upstream.set(Some(upstream));
    }

    /// Remembers when the head of the upstream's response was there.
    pub(crate) fn first_byte(&self, at: Instant) {
        self.first_byte.set(Some(at.saturating_duration_since(self.began)));
    }

    /// Where it is counted how much of its body has come.
    pub(crate) fn count_received(&self) -> Rc<Cell<u64>> {
        Rc::clone(self.received.get_or_init(Rc::default))
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.get().map_or(0, |count| count.get())
    }

    /// Remembers that it goes on beyond its response, which tells of itself when it ends.
    pub(crate) fn becomes_tunnel(&self) {
        self.ending_is_told();
    }

    /// Remembers that somebody else tells how it ended.
    pub(crate) fn ending_is_told(&self) {
        self.ending_is_told.set(true);
    }

    pub(crate) fn is_ending_told(&self) -> bool {
        self.ending_is_told.get()
    }

    pub(super) fn target(&self) -> Target<'_> {
        let witness = &self.witness;
        Target { host: witness.host(), path: witness.path(), query: witness.query() }
    }

    pub(super) fn outcome(&self, ended: Ended) -> Outcome {
        let Ended { end, duration, sent, received } = ended;
        Outcome {
            id: self.id,
            trace: self.trace,
            at: self.at,
            duration,
            method: self.witness.method.clone(),
            version: self.witness.version,
            tls: self.tls,
            client: self.witness.client,
            status: self.status.get(),
            end,
            route: self.route().cloned(),
            refusal: self.refused.get().map(refusal),
            upstream: self.upstream.get(),
            first_byte: self.first_byte.get(),
            sent,
            received,
        }
    }

    /// What the route of an admitted request asks for.
    pub(crate) fn options(&self) -> Option<&Options> {
        self.shared_options().map(Arc::as_ref)
    }

    /// What the trailers of its request or of the answer lose.
    pub(crate) fn trailers(&self, message: Message) -> TrailerEdits {
        TrailerEdits::new(message, self.shared_options())
    }

    fn shared_options(&self) -> Option<&Arc<Options>> {
        match self.found.get() {
            Some(Found::Admitted(route)) => route.options.as_ref(),
            Some(Found::Named(_)) | None => None,
        }
    }
}

fn refusal(refused: &Refused) -> Refusal {
    match refused {
        Refused::Denied(denial) => Refusal {
            code: denial.code(),
            policy: denial.policy().cloned(),
            rule: denial.site.as_ref().map(|site| Arc::clone(&site.rule)),
        },
        Refused::Unserved(unserved) => Refusal { code: unserved.code, policy: None, rule: None },
    }
}
