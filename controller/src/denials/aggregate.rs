//! Which Event to write next: pure, the clock is an argument.
//!
//! Refusals come in as exact totals and a few samples; Events go out one by one, as the budget
//! allows. The first refusal of a group is written at once, repeats after the shortest distance as
//! long as half of the budget is free, and otherwise at growing ones. The count of an Event is
//! always the group's exact total at the time of writing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use compile::finding::{Effect, Finding, Reason};
use dataplane::{DenialKey, DenialSample};
use decision::refs::{FieldRef, Kind, ResourceRef};
use jiff::Timestamp;

use crate::denials::{
    budget::Budget,
    message::{self, Facts},
};

/// How long the first Event of a group waits for the sample that goes with its count.
const PATIENCE: Duration = Duration::from_millis(400);

/// How fast Events are written.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Most writes in any minute.
    pub per_minute: u32,
    /// Most writes at once.
    pub burst: u32,
    /// From one write of a group to the next while others want the budget; the last distance goes
    /// on. With half of the budget free the first holds.
    pub distances: Vec<Duration>,
}

impl Pace {
    /// For a cluster: repeats after `window`, then 4, 20 and 60 times as long; 30 s become 30 s,
    /// 2 min, 10 min, 30 min.
    pub fn of_cluster(window: Duration, per_minute: u32) -> Self {
        let distances = [1, 4, 20, 60].map(|times| window.saturating_mul(times)).to_vec();
        Self { per_minute, burst: 25, distances }
    }

    /// For a terminal: nobody else has to be spared, so repeats follow every `window`.
    pub fn of_terminal(window: Duration) -> Self {
        Self { per_minute: 1_200, burst: 200, distances: vec![window] }
    }
}

/// A moment, in the time that paces and in the time that people read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the program started. Never goes back.
    pub elapsed: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// What is told in one Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Refusals of one code by one field at one route.
    Denial(Arc<DenialKey>),
    /// A problem in a manifest.
    Finding(FieldRef, Reason),
}

/// One Event on one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NoteId {
    /// What it tells.
    pub group: Group,
    /// Whose it is.
    pub object: ResourceRef,
}

/// An Event as it should stand now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which one.
    pub id: NoteId,
    /// The code: the Event's `reason`.
    pub reason: &'static str,
    /// Whether somebody was refused. Otherwise it would have been, but for shadow.
    pub warning: bool,
    /// The Event's `message`, at most 1,024 bytes.
    pub message: String,
    /// How often, since the program started.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// Groups, what was written of them, and the budget.
#[derive(Debug)]
pub struct Aggregate {
    pace: Pace,
    budget: Budget,
    groups: HashMap<Group, Counted>,
    closing: bool,
}

#[derive(Debug)]
struct Counted {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    first_seen: Duration,
    last_seen: Duration,
    text: Text,
    told: Vec<Told>,
}

#[derive(Debug)]
enum Text {
    Denial(Option<Facts>),
    Finding(String),
}

/// What the Event of a group on one object holds.
#[derive(Debug)]
struct Told {
    object: ResourceRef,
    written: u64,
    step: usize,
    due: Duration,
    /// When it is due if there is room.
    due_at_ease: Duration,
}

impl Aggregate {
    /// Nothing counted, the whole budget left.
    pub fn new(pace: Pace) -> Self {
        let budget = Budget::new(pace.per_minute, pace.burst);
        Self { pace, budget, groups: HashMap::new(), closing: false }
    }

    /// Leaves the other replicas their parts of the budget.
    pub fn divide(&mut self, replicas: usize) {
        self.budget.divide(replicas);
    }

    /// Takes the exact totals of everything that is counted. Refusals without a route are left to
    /// logs and metrics: whoever scans for hosts must not write Events. What is not counted any more
    /// is forgotten here, too: its route or its rule is gone.
    pub fn count(&mut self, totals: Vec<(Arc<DenialKey>, u64)>, now: Moment) {
        let counted: HashSet<_> = totals.iter().map(|(key, _)| Arc::clone(key)).collect();
        self.groups.retain(|group, _| match group {
            Group::Denial(key) => counted.contains(key),
            Group::Finding(..) => true,
        });
        for (key, total) in totals {
            let Some(route) = key.route.as_ref().filter(|_| total > 0) else { continue };
            let objects = [Some(route.field.resource.clone()), key.policy.clone()];
            let new = || Counted::new(Text::Denial(None), objects.into_iter().flatten(), now);
            let group = self.groups.entry(Group::Denial(Arc::clone(&key))).or_insert_with(new);
            group.grow_to(total, &self.pace, now);
        }
    }

    /// Takes the facts of one refusal; the newest ones stand in the next Event.
    pub fn observe(&mut self, sample: &DenialSample) {
        let counted = self.groups.get_mut(&Group::Denial(Arc::clone(&sample.key)));
        if let Some(counted) = counted {
            counted.text = Text::Denial(Some(Facts::of_sample(sample)));
        }
    }

    /// Takes the findings that stand: what closes or rejects a part of an Ingress or a policy, or
    /// gives its host to another, is an Event there, once for as long as it lasts. When the words
    /// change, the Event is written again, at the distances of a repeat.
    pub fn find(&mut self, findings: &[Finding], now: Moment) {
        let mut standing: HashMap<(&FieldRef, Reason), String> = HashMap::new();
        for finding in findings.iter().filter(|finding| is_told(finding)) {
            let text = || message::of_finding(&finding.field, &finding.message, &finding.remedy);
            standing.entry((&finding.field, finding.reason)).or_insert_with(text);
        }
        self.groups.retain(|group, _| match group {
            Group::Denial(_) => true,
            Group::Finding(field, reason) => standing.contains_key(&(field, *reason)),
        });
        for ((field, reason), text) in standing {
            let group = Group::Finding(field.clone(), reason);
            let new = || Counted::new(Text::Finding(text.clone()), [field.resource.clone()], now);
            let counted = self.groups.entry(group).or_insert_with(new);
            counted.grow_to(1, &self.pace, now);
            counted.reword(text);
        }
    }

    /// The most urgent Event that is due and within the budget, which it takes a write from.
    /// `exists` tells whether there is such an object to write about.
    ///
    /// A namespace that has had half of the budget waits for the others; then new refusals go before
    /// findings, and those before repeats; then the namespace that was written about least.
    /// Findings leave half of the budget to refusals, which nobody can foresee.
    pub fn next(&mut self, now: Moment, exists: impl Fn(&ResourceRef) -> bool) -> Option<Note> {
        if !self.budget.has_room(now.elapsed) {
            return None;
        }
        let at_ease = self.budget.is_at_ease(now.elapsed);
        let mut shares: HashMap<&str, usize> = HashMap::new();
        let groups = self.groups.iter();
        let groups = groups.filter(|(group, _)| at_ease || !matches!(group, Group::Finding(..)));
        let waiting = groups.flat_map(|(group, counted)| {
            let waiting = counted.waiting(now.elapsed, at_ease, self.closing);
            waiting.map(move |told| (group, counted, told))
        });
        let (group, counted, told) = waiting
            .filter(|(_, _, told)| exists(&told.object))
            .min_by_key(|(group, _, told)| {
                let namespace = &*told.object.namespace;
                let share = shares.entry(namespace).or_insert_with(|| self.budget.share(namespace));
                (self.budget.is_greedy(*share), urgency(group, told), *share, told.due)
            })?;
        let note = counted.note(group, &told.object);
        self.budget.take(&note.id.object.namespace, now.elapsed);
        Some(note)
    }

    /// The Event of [`Aggregate::next`] stands as it should.
    pub fn written(&mut self, note: &Note, now: Moment) {
        let distances = &self.pace.distances;
        let told = self.groups.get_mut(&note.id.group).and_then(|it| it.told_of(&note.id.object));
        if let Some(told) = told {
            told.written = note.count;
            let distance = |step| distances.get(step).or(distances.last()).copied();
            told.due = now.elapsed + distance(told.step).unwrap_or_default();
            told.due_at_ease = now.elapsed + distance(0).unwrap_or_default();
            told.step = (told.step + 1).min(distances.len().saturating_sub(1));
        }
    }

    /// The Event of [`Aggregate::next`] could not be written; nothing that it counts is lost.
    pub fn failed(&mut self, note: &Note, retry_in: Duration, now: Moment) {
        let told = self.groups.get_mut(&note.id.group).and_then(|it| it.told_of(&note.id.object));
        if let Some(told) = told {
            told.due = now.elapsed + retry_in;
            told.due_at_ease = told.due;
        }
    }

    /// From now on what was counted is written without regard to distances: the program ends.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// How many Events wait for the budget.
    pub fn waiting(&self, now: Moment, exists: impl Fn(&ResourceRef) -> bool) -> usize {
        let groups = self.groups.values();
        let waiting = groups.flat_map(|counted| counted.waiting(now.elapsed, false, self.closing));
        waiting.filter(|told| exists(&told.object)).count()
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

/// Whether a finding is worth an Event: not what is only probably meant otherwise.
fn is_told(finding: &Finding) -> bool {
    let costs = match finding.effect {
        Effect::Closes | Effect::Rejects => true,
        Effect::Warns => matches!(finding.reason, Reason::HostConflict | Reason::PolicyWithdrawn),
    };
    has_events(finding.field.resource.kind) && costs
}

/// Whether Events are written about objects of a kind. The others tell by their status, or in the log.
pub(crate) fn has_events(kind: Kind) -> bool {
    matches!(kind, Kind::Ingress | Kind::AccessPolicy)
}

/// New refusals, new findings, repeats.
fn urgency(group: &Group, told: &Told) -> u8 {
    match group {
        _ if told.written > 0 => 2,
        Group::Finding(..) => 1,
        Group::Denial(_) => 0,
    }
}

impl Counted {
    fn new(text: Text, objects: impl IntoIterator<Item = ResourceRef>, now: Moment) -> Self {
        let due = now.elapsed;
        let new = |object| Told { object, written: 0, step: 0, due, due_at_ease: due };
        Self {
            count: 0,
            first: now.wall,
            last: now.wall,
            first_seen: now.elapsed,
            last_seen: now.elapsed,
            text,
            told: objects.into_iter().map(new).collect(),
        }
    }

    /// After a silence as long as the longest distance a group is written at once again.
    fn grow_to(&mut self, total: u64, pace: &Pace, now: Moment) {
        if total < self.count {
            // It was forgotten, and has come back.
            self.count = 0;
            self.told.iter_mut().for_each(|told| told.written = 0);
        }
        if total == self.count {
            return;
        }
        let silence = now.elapsed.saturating_sub(self.last_seen);
        if pace.distances.last().is_some_and(|longest| silence >= *longest) {
            for told in &mut self.told {
                told.step = 0;
            }
        }
        self.count = total;
        self.last = now.wall;
        self.last_seen = now.elapsed;
    }

    /// A finding in other words is told again, once the distance has passed.
    fn reword(&mut self, text: String) {
        if matches!(&self.text, Text::Finding(before) if *before == text) {
            return;
        }
        self.text = Text::Finding(text);
        for told in &mut self.told {
            told.written = 0;
        }
    }

    fn waiting(&self, now: Duration, at_ease: bool, closing: bool) -> impl Iterator<Item = &Told> {
        let told_apart = !matches!(self.text, Text::Denial(None))
            || now.saturating_sub(self.first_seen) >= PATIENCE;
        let is_due =
            move |told: &Told| closing || told.due <= now || (at_ease && told.due_at_ease <= now);
        self.told.iter().filter(move |told| told_apart && told.written < self.count && is_due(told))
    }

    fn told_of(&mut self, object: &ResourceRef) -> Option<&mut Told> {
        self.told.iter_mut().find(|told| told.object == *object)
    }

    fn note(&self, group: &Group, object: &ResourceRef) -> Note {
        let (reason, warning, message) = match (group, &self.text) {
            (Group::Denial(key), Text::Denial(facts)) => {
                let message = message::of_denial(key, facts.as_ref(), object.kind);
                (key.code.as_str(), !key.shadow, message)
            }
            (Group::Denial(key), Text::Finding(text)) => (key.code.as_str(), true, text.clone()),
            (Group::Finding(_, reason), Text::Finding(text)) => {
                (reason.as_str(), true, text.clone())
            }
            (Group::Finding(_, reason), Text::Denial(_)) => (reason.as_str(), true, String::new()),
        };
        Note {
            id: NoteId { group: group.clone(), object: object.clone() },
            reason,
            warning,
            message,
            count: self.count,
            first: self.first,
            last: self.last,
        }
    }
}

#[cfg(test)]
mod tests;
