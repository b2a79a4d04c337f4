//! What the publishers share: exact totals and samples of the data plane, put into the aggregate.

use std::{fmt, sync::Arc, time::Duration};

use compile::Finding;
use dataplane::{DenialKey, DenialSample};
use decision::refs::ResourceRef;
use jiff::Timestamp;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::denials::{
    aggregate::{Aggregate, Moment, Note, Pace},
    recorder::Recorder,
};

/// How often totals are read; the first Event of a group is written within a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// Reads the exact totals of refusals since the start.
pub type Totals = Box<dyn Fn() -> Vec<(Arc<DenialKey>, u64)> + Send + Sync>;

/// Counters of the publishers, for the admin port.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Writes that succeeded.
    pub written: Counter,
    /// Writes that failed, and are tried again.
    pub failed: Counter,
    /// Events that wait for the budget.
    pub waiting: Gauge,
    /// Groups that are counted.
    pub groups: Gauge,
}

/// The way from refusals to Events, up to the one who writes them.
pub struct Collector {
    begun: Instant,
    totals: Totals,
    samples: mpsc::Receiver<DenialSample>,
    aggregate: Aggregate,
    recorder: Option<Recorder>,
    counts: Counts,
    rests_until: Option<Instant>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("aggregate", &self.aggregate).finish_non_exhaustive()
    }
}

impl Collector {
    /// Nothing counted yet.
    pub fn new(
        totals: Totals,
        samples: mpsc::Receiver<DenialSample>,
        pace: Pace,
        counts: Counts,
    ) -> Self {
        let (begun, aggregate) = (Instant::now(), Aggregate::new(pace));
        Self { begun, totals, samples, aggregate, recorder: None, counts, rests_until: None }
    }

    /// Counts for the statuses of policies, too.
    #[must_use]
    pub fn recording(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Waits for the next samples, or a while, and counts. `findings` are given when they changed.
    pub async fn collect(&mut self, findings: Option<&[Finding]>) {
        // An error only says that nothing came.
        let first = timeout(INTERVAL, self.samples.recv()).await.ok().flatten();
        if first.is_some() {
            // More of the same are on their way; one look at the totals will do for all.
            tokio::time::sleep(INTERVAL / 10).await;
        }
        self.count(first, findings);
    }

    /// Counts what is there now.
    fn count(&mut self, first: Option<DenialSample>, findings: Option<&[Finding]>) {
        let mut samples: Vec<_> = first.into_iter().collect();
        while let Ok(sample) = self.samples.try_recv() {
            samples.push(sample);
        }
        let now = self.now();
        let totals = (self.totals)();
        if let Some(recorder) = &mut self.recorder {
            recorder.record(&totals, &samples);
        }
        self.aggregate.count(totals, now);
        for sample in &samples {
            self.aggregate.observe(sample);
        }
        if let Some(findings) = findings {
            self.aggregate.find(findings, now);
        }
        self.counts.groups.set(i64::try_from(self.aggregate.groups()).unwrap_or(i64::MAX));
    }

    /// Leaves the other replicas their parts of the budget.
    pub fn divide(&mut self, replicas: usize) {
        self.aggregate.divide(replicas);
    }

    /// Counts a last time; from now on nothing is held back but by the budget.
    pub fn close(&mut self) {
        self.count(None, None);
        self.aggregate.close();
    }

    /// The next Event to write.
    pub fn next(&mut self, exists: impl Fn(&ResourceRef) -> bool) -> Option<Note> {
        if self.rests_until.is_some_and(|end| Instant::now() < end) {
            return None;
        }
        let now = self.now();
        let note = self.aggregate.next(now, &exists);
        if note.is_none() {
            let waiting = self.aggregate.waiting(now, exists);
            self.counts.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
        note
    }

    /// The Event stands.
    pub fn written(&mut self, note: &Note) {
        self.counts.written.inc();
        self.aggregate.written(note, self.now());
    }

    /// The Event could not be written.
    pub fn failed(&mut self, note: &Note, retry_in: Duration) {
        self.counts.failed.inc();
        self.aggregate.failed(note, retry_in, self.now());
    }

    /// The Event needs one more write, of the same budget.
    pub fn again(&mut self, note: &Note) {
        self.aggregate.failed(note, Duration::ZERO, self.now());
    }

    /// Writes nothing for a while: whoever should take it is away.
    pub fn rest(&mut self, pause: Duration) {
        self.rests_until = Some(Instant::now() + pause);
    }

    fn now(&self) -> Moment {
        Moment { elapsed: self.begun.elapsed(), wall: Timestamp::now() }
    }
}
