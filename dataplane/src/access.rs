//! Exchanges that have ended, on their way from the data threads to whoever writes them down.
//!
//! A data thread only copies what it knows into a batch of its own, behind a lock that nobody else
//! wants but for the moment in which the batch is taken away. It formats nothing, allocates nothing
//! once its batch has grown, and wakes nobody but with the first exchange of a batch.

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use decision::{
    code::Code,
    refs::{ResourceRef, RouteName},
};
use http::{Method, StatusCode, Version};

use crate::{
    id::RequestId,
    metrics::{Count, ThreadCounts},
    trace::Trace,
};

/// Most exchanges of one thread that wait; a further one is dropped and counted.
const WAITING: usize = 8_192;
/// Most bytes of their hosts and targets.
const TEXT: usize = 2 * 1024 * 1024;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of the response was handed to the client's connection, or both sides of a tunnel are
    /// done with it.
    Complete,
    /// The response broke off: the client left, the upstream failed, or policies refuse it now.
    CutOff,
    /// The client left before there was a response.
    Unanswered,
}

impl End {
    /// How it is told: `complete`, `cut-off`, `unanswered`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CutOff => "cut-off",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What refused an exchange, or broke it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// The policy, if one did.
    pub policy: Option<ResourceRef>,
    /// Its rule.
    pub rule: Option<Arc<str>>,
}

/// What is known of an exchange that has ended, besides its host and target.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The request.
    pub id: RequestId,
    /// The trace that it belongs to, if one is known.
    pub trace: Option<Trace>,
    /// When the last byte of the request's head was there.
    pub at: SystemTime,
    /// From then to the end of the response's body, or of the tunnel.
    pub duration: Duration,
    /// The method, as sent.
    pub method: Method,
    /// The protocol version on our side.
    pub version: Version,
    /// The version of TLS, such as `TLSv1.3`; `None` for plain HTTP.
    pub tls: Option<&'static str>,
    /// The best known address of the client.
    pub client: IpAddr,
    /// `None` if the client left before.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub end: End,
    /// `None` if there is none.
    pub route: Option<Arc<RouteName>>,
    /// `None` if nothing refused it.
    pub refusal: Option<Refusal>,
    /// The endpoint that was asked last.
    pub upstream: Option<SocketAddr>,
    /// From `at` to the head of the upstream's response.
    pub first_byte: Option<Duration>,
    /// Bytes of the response's body that were handed to the client's connection.
    pub sent: u64,
    /// Bytes of the request's body that came from the client.
    pub received: u64,
}

/// One exchange that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Access<'b> {
    /// What became of it.
    pub outcome: &'b Outcome,
    /// The canonical host; empty if the request had no readable one.
    pub host: &'b str,
    /// The canonical path; as sent if it could not be read.
    pub path: &'b str,
    /// The query, as sent. It may hold secrets.
    pub query: Option<&'b str>,
}

/// A host and a target, to be copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'t> {
    pub(crate) host: &'t str,
    pub(crate) path: &'t str,
    pub(crate) query: Option<&'t str>,
}

#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    text: String,
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    host: Range<usize>,
    path: Range<usize>,
    query: Option<Range<usize>>,
}

impl Batch {
    fn has_room(&self, target: Target<'_>) -> bool {
        let more = target.host.len() + target.path.len() + target.query.map_or(0, str::len);
        self.entries.len() < WAITING && self.text.len() + more <= TEXT
    }

    fn push(&mut self, outcome: Outcome, target: Target<'_>) {
        let host = self.copy(target.host);
        let path = self.copy(target.path);
        let query = target.query.map(|query| self.copy(query));
        self.entries.push(Entry { outcome, host, path, query });
    }

    fn copy(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    fn each(&self, mut tell: impl FnMut(Access<'_>)) {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        for Entry { outcome, host, path, query } in &self.entries {
            let query = query.as_ref().map(text);
            tell(Access { outcome, host: text(host), path: text(path), query });
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
    }
}

/// What waits of one thread.
#[derive(Debug, Default)]
struct Lane(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// The thread has ended.
    is_closed: bool,
}

/// Calls the reader.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    called: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.called.notify_one();
    }

    fn wait(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let rung = self.called.wait_while(rung, |rung| !*rung);
        *rung.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// What counts what was dropped.
pub(crate) type Dropped = fn(&ThreadCounts) -> &Count;

/// One data thread's end.
pub(crate) struct AccessSender {
    lane: Arc<Lane>,
    bell: Arc<Bell>,
    counts: Arc<ThreadCounts>,
    dropped: Dropped,
}

impl AccessSender {
    /// Hands an exchange over, or counts it if too many wait already.
    pub(crate) fn send(&self, outcome: Outcome, target: Target<'_>) {
        let mut waiting = self.lane.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.batch.has_room(target) {
            drop(waiting);
            return (self.dropped)(&self.counts).add();
        }
        waiting.batch.push(outcome, target);
        let is_first = waiting.batch.entries.len() == 1;
        drop(waiting);
        if is_first {
            self.bell.ring();
        }
    }
}

impl Drop for AccessSender {
    fn drop(&mut self) {
        self.lane.0.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.bell.ring();
    }
}

/// The end of whoever writes exchanges down, on a thread that may wait.
#[derive(Debug)]
pub struct AccessReader {
    lanes: Vec<Arc<Lane>>,
    bell: Arc<Bell>,
    /// How long exchanges gather before they are taken away.
    gather: Duration,
    counts: Option<Arc<ThreadCounts>>,
    dropped: Dropped,
    /// Given to a thread in the place of its own, so that none is made anew.
    spare: Batch,
}

impl AccessReader {
    /// Waits for exchanges and gives each that came. False once there will never be more.
    ///
    /// Those of one thread come in the order in which they ended.
    pub fn read(&mut self, mut each: impl FnMut(Access<'_>)) -> bool {
        self.bell.wait();
        thread::sleep(self.gather);
        let mut is_open = false;
        for lane in &self.lanes {
            let mut waiting = lane.0.lock().unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut waiting.batch, &mut self.spare);
            is_open |= !waiting.is_closed;
            drop(waiting);
            self.spare.each(&mut each);
            self.spare.clear();
        }
        is_open
    }

    /// Counts exchanges that could not be written.
    pub fn dropped(&self, count: u64) {
        if let Some(counts) = &self.counts {
            (self.dropped)(counts).add_many(count);
        }
    }
}

/// A way from each thread to one reader.
pub(crate) fn ways(
    threads: &[Arc<ThreadCounts>],
    gather: Duration,
    dropped: Dropped,
) -> (Vec<AccessSender>, AccessReader) {
    let bell = Arc::<Bell>::default();
    let lanes: Vec<_> = threads.iter().map(|_| Arc::<Lane>::default()).collect();
    let senders = threads.iter().zip(&lanes).map(|(counts, lane)| AccessSender {
        lane: Arc::clone(lane),
        bell: Arc::clone(&bell),
        counts: Arc::clone(counts),
        dropped,
    });
    let senders = senders.collect();
    let counts = threads.first().cloned();
    (senders, AccessReader { lanes, bell, gather, counts, dropped, spare: Batch::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;

    fn outcome() -> Outcome {
        Outcome {
            id: Ids::new(1).next(SystemTime::UNIX_EPOCH),
            trace: None,
            at: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            method: Method::GET,
            version: Version::HTTP_11,
            tls: None,
            client: [127, 0, 0, 1].into(),
            status: Some(StatusCode::OK),
            end: End::Complete,
            route: None,
            refusal: None,
            upstream: None,
            first_byte: None,
            sent: 0,
            received: 0,
        }
    }

    fn target(path: &str) -> Target<'_> {
        Target { host: "shop.test", path, query: path.strip_prefix("/?") }
    }

    fn two_threads() -> (Vec<AccessSender>, AccessReader, Vec<Arc<ThreadCounts>>) {
        let counts = vec![Arc::default(), Arc::default()];
        let (senders, reader) = ways(&counts, Duration::ZERO, |counts| &counts.access_log_dropped);
        (senders, reader, counts)
    }

    fn read(reader: &mut AccessReader) -> (Vec<String>, bool) {
        let mut read = Vec::new();
        let is_open = reader
            .read(|Access { host, path, query, .. }| read.push(format!("{host}{path} {query:?}")));
        (read, is_open)
    }

    #[test]
    fn every_thread_is_read_until_all_have_ended() {
        let (mut senders, mut reader, _) = two_threads();
        for sender in &senders {
            sender.send(outcome(), target("/a"));
            sender.send(outcome(), target("/?b"));
        }
        let expected = ["shop.test/a None", "shop.test/?b Some(\"b\")"].repeat(2);
        assert_eq!(read(&mut reader), (expected.iter().map(|it| (*it).to_owned()).collect(), true));
        let last = senders.pop().unwrap();
        drop(senders);
        assert_eq!(read(&mut reader), (vec![], true));
        last.send(outcome(), target("/last"));
        drop(last);
        assert_eq!(read(&mut reader), (vec!["shop.test/last None".to_owned()], false));
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_and_memory_stays_bounded() {
        let (senders, mut reader, counts) = two_threads();
        for _ in 0..WAITING + 7 {
            senders[0].send(outcome(), target("/"));
        }
        let long = "/".repeat(TEXT / 4);
        for _ in 0..5 {
            senders[1].send(outcome(), target(&long));
        }
        assert_eq!([&counts[0], &counts[1]].map(|it| it.access_log_dropped.value()), [7, 2]);
        assert_eq!(read(&mut reader).0.len(), WAITING + 3);
        senders[0].send(outcome(), target("/again"));
        assert_eq!(read(&mut reader).0, ["shop.test/again None"]);
    }
}
