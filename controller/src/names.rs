//! Names of the DNS that stand for endpoints: asked for again whenever their time is up, beside the
//! threads that serve requests.

mod book;
mod lookup;

use std::{sync::Arc, time::Duration};

use compile::{Resources, settings::NameProblems};
use decision::endpoint::ExternalReach;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{
        Mutex,
        watch::{self, error::RecvError},
    },
    time::{Instant, sleep_until, timeout},
};

use self::book::Book;
pub use self::lookup::{Lookup, LookupError};
use crate::pipeline::{KnownNames, Outcome};

/// Most names that are asked for at once.
const AT_ONCE: usize = 16;

/// How long the start of the program waits for the first answers; without them routes answer
/// `NoEndpoints` until they come.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// Everything that asking for names needs.
#[derive(Clone, Debug)]
pub struct Names {
    lookup: Lookup,
    book: Arc<Mutex<Book>>,
    settled: watch::Sender<bool>,
}

impl Names {
    /// Nothing is asked for yet.
    pub fn new(lookup: Lookup, reach: ExternalReach) -> Self {
        Self {
            lookup,
            book: Arc::new(Mutex::new(Book::new(reach))),
            settled: watch::Sender::new(false),
        }
    }

    /// Waits until every name of the first manifests was answered once, or for as long as that may
    /// take.
    pub async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let answered = settled.wait_for(|settled| *settled);
        // Whatever is missing then is told by the routes that need it.
        let _ = timeout(FIRST_ANSWERS, answered).await;
    }

    /// Asks for the names that routes need, and publishes where they lead, for ever.
    ///
    /// # Errors
    /// If nothing is compiled any more.
    pub async fn follow(
        self,
        mut outcome: watch::Receiver<Option<Arc<Outcome>>>,
        known: KnownNames,
    ) -> Result<(), RecvError> {
        let mut book = self.book.lock().await;
        book.forget_questions();
        let mut questions = FuturesUnordered::new();
        outcome.mark_changed();
        loop {
            let now = Instant::now();
            for name in book.due(now, AT_ONCE.saturating_sub(questions.len())) {
                let lookup = &self.lookup;
                questions.push(async move { (lookup.ask(&name).await, name) });
            }
            let next = book.next().filter(|_| questions.len() < AT_ONCE);
            tokio::select! {
                changed = outcome.changed() => {
                    changed?;
                    let newest = outcome.borrow_and_update().clone();
                    let Some(newest) = newest else { continue };
                    book.need(&newest.external_names, Instant::now());
                }
                Some((answer, name)) = questions.next() => book.note(&name, answer, Instant::now()),
                () = sleep_until(next.unwrap_or(now)), if next.is_some() => continue,
            }
            publish(&book, &known);
            let is_settled = book.is_settled();
            self.settled.send_if_modified(|settled| {
                std::mem::replace(settled, *settled || is_settled) != *settled
            });
        }
    }
}

fn publish(book: &Book, known: &KnownNames) {
    let (endpoints, problems) = (book.endpoints(), book.problems());
    known.endpoints.send_if_modified(|known| replace(known, endpoints));
    known.problems.send_if_modified(|known| replace(known, problems));
}

fn replace<T: PartialEq>(known: &mut Arc<T>, new: T) -> bool {
    let differs = **known != new;
    if differs {
        *known = Arc::new(new);
    }
    differs
}

/// Passes resources on, and the same again whenever something else is wrong with names: what is
/// compiled of them is another then.
///
/// # Errors
/// If the source is gone.
pub async fn pass_on_resources(
    mut source: watch::Receiver<Option<Arc<Resources>>>,
    mut problems: watch::Receiver<Arc<NameProblems>>,
    resources: watch::Sender<Option<Arc<Resources>>>,
) -> Result<(), RecvError> {
    source.mark_changed();
    loop {
        tokio::select! {
            changed = source.changed() => changed?,
            changed = problems.changed() => changed?,
        }
        let newest = source.borrow_and_update().clone();
        if newest.is_some() {
            resources.send_replace(newest);
        }
    }
}
