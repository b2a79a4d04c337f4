//! A connection whose protocol was switched: bytes both ways until one side ends, nothing moves any
//! more, or the policies of its route refuse it.

mod flow;
mod frames;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use self::{flow::Flow, frames::Frames};
use crate::{
    body::Patience,
    ending::TunnelEnding,
    ongoing::{Ended, Enrolled},
    progress::{OpenTunnel, Progress},
    upstream::Lease,
    worker::Worker,
};

/// How long a client may take to read why its WebSocket ends.
const LINGER: Duration = Duration::from_secs(2);

/// A tunnel that opens as soon as the client has its answer.
pub(crate) struct Tunnel {
    upstream: OnUpgrade,
    /// Counts for the endpoint as long as the tunnel is open.
    _lease: Lease,
    ending: TunnelEnding,
    enrolled: Enrolled,
    is_websocket: bool,
}

impl Tunnel {
    pub(crate) fn new(
        (upstream, mut lease): (OnUpgrade, Lease),
        ending: TunnelEnding,
        enrolled: Enrolled,
        is_websocket: bool,
    ) -> Self {
        lease.becomes_tunnel();
        Self { upstream, _lease: lease, ending, enrolled, is_websocket }
    }

    /// Passes bytes on until it ends.
    pub(crate) async fn run(
        self: Box<Self>,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        worker: Rc<Worker>,
        progress: Rc<Progress>,
    ) {
        let open = OpenTunnel::new(&progress, &worker.record.counts);
        let Self { upstream, _lease, ending, enrolled, is_websocket } = *self;
        // The upstream's connection says so if it broke meanwhile.
        let Ok(upstream) = upstream.await else { return };
        let mut upstream = TokioIo::new(upstream);
        let frames = is_websocket.then(Frames::default);
        let mut pump = Pump {
            up: Flow::default(),
            down: Flow::default(),
            frames,
            told: false,
            patience: Patience::default(),
            open,
            ending,
            enrolled,
            progress,
            worker,
        };
        let ended = poll_fn(|context| pump.poll(context, &mut client, &mut upstream)).await;
        if let End::Revoked(ended) = ended {
            drop(upstream);
            // Whether the client wants to hear it is its own affair.
            let _ = timeout(LINGER, pump.explain(ended, &mut client)).await;
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Why a tunnel ends.
enum End {
    /// One side broke it off, or both are done, or nothing moved for too long.
    Over,
    /// Policies refuse it.
    Revoked(Ended),
}

struct Pump {
    up: Flow,
    down: Flow,
    /// Those that the client gets, of a WebSocket.
    frames: Option<Frames>,
    /// The client was told that we go away; what the upstream says is not passed on any more.
    told: bool,
    patience: Patience,
    open: OpenTunnel,
    ending: TunnelEnding,
    enrolled: Enrolled,
    progress: Rc<Progress>,
    worker: Rc<Worker>,
}

impl Pump {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        upstream: &mut TokioIo<Upgraded>,
    ) -> Poll<End> {
        if let Poll::Ready(ended) = self.enrolled.poll_ended(context) {
            return Poll::Ready(End::Revoked(ended));
        }
        if self.progress.is_stopping() {
            self.say_farewell();
        }
        match self.poll_flows(context, client, upstream) {
            Err(_) => return Poll::Ready(End::Over),
            Ok(true) => {
                self.patience.rest();
                self.open.progressed();
            }
            Ok(false) => {}
        }
        let (up, down) = (self.up.is_closed(), self.down.is_closed());
        if up && (down || self.told) {
            self.ending.completed();
            return Poll::Ready(End::Over);
        }
        let limits = &self.worker.settings.limits;
        // Who has nothing more to say mostly waits for the other side to end, too.
        let half = up || down;
        let limit = if half { limits.transfer_idle } else { limits.tunnel_idle };
        self.patience.poll(context, limit).map(|()| End::Over)
    }

    /// True if something moved.
    fn poll_flows(
        &mut self,
        context: &mut Context<'_>,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        upstream: &mut TokioIo<Upgraded>,
    ) -> io::Result<bool> {
        let mut room = self.worker.room.borrow_mut();
        let (mut moved, told) = (false, self.told);
        let TunnelEnding { sent, received, .. } = &mut self.ending;
        let up = self.up.poll(context, Pin::new(client), Pin::new(upstream), &mut room, |read| {
            moved = true;
            *received = received.saturating_add(length(read));
            true
        });
        let frames = &mut self.frames;
        let down =
            self.down.poll(context, Pin::new(upstream), Pin::new(client), &mut room, |read| {
                moved = true;
                if let Some(frames) = frames {
                    frames.follow(read);
                }
                *sent = sent.saturating_add(if told { 0 } else { length(read) });
                !told
            });
        for flow in [up, down] {
            if let Poll::Ready(ended) = flow {
                ended?;
            }
        }
        Ok(moved)
    }

    /// Tells a WebSocket's client once that the process ends, so that it opens another.
    fn say_farewell(&mut self) {
        let between = self.frames.as_ref().is_some_and(Frames::is_between);
        if between && !self.told {
            self.told = true;
            self.down.say(&frames::close(frames::GOING_AWAY, "the gateway is going away"));
        }
    }

    /// Tells a client why its tunnel ends, as far as its protocol has words for it.
    async fn explain(
        &mut self,
        ended: Ended,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let between = self.frames.as_ref().is_some_and(Frames::is_between);
        if between && !self.told {
            let reason = ended.told.map_or("refused", |code| code.as_str());
            self.down.say(&frames::close(frames::POLICY, reason));
        }
        client.write_all(&self.down.take_left()).await?;
        client.shutdown().await?;
        let mut thrown_away = [0; 1024];
        while client.read(&mut thrown_away).await? > 0 {}
        Ok(())
    }
}
