//! What is known of names: when to ask again, what to go on with, and what is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use compile::settings::{NameProblem, NameProblems};
use decision::{
    endpoint::{EndpointAddress, ExternalReach, Forbidden},
    route::ServicePort,
};
use tokio::time::Instant;

use super::lookup::{Answer, Failure};
use crate::pipeline::NamedEndpoints;

/// An answer is used for at least so long: a record may say that it lives for no time at all.
const SHORTEST: Duration = Duration::from_secs(5);

/// And for at most so long: nobody wants to wait for a day until a move is seen.
const LONGEST: Duration = Duration::from_mins(5);

/// After a question without an answer it is asked again; twice as long each further time.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// For so long an answer is used beyond its time if there is no other.
const KEPT: Duration = Duration::from_mins(5);

/// Most names of a namespace, so that no tenant buys the DNS; the first in the order of Services.
const NAMES: usize = 100;

/// The names that routes need.
#[derive(Debug)]
pub(super) struct Book {
    reach: ExternalReach,
    ports: BTreeMap<ServicePort, Arc<str>>,
    names: BTreeMap<Arc<str>, Entry>,
    /// Those that nobody asks for.
    surplus: BTreeSet<Arc<str>>,
    /// Whether it is known which names are needed.
    begun: bool,
}

#[derive(Debug)]
struct Entry {
    /// The last good answer, and when its time is up.
    known: Option<(Vec<IpAddr>, Instant)>,
    problem: Option<(String, String)>,
    /// When to ask.
    due: Instant,
    is_asked: bool,
    was_answered: bool,
    /// Questions in a row without an answer.
    failures: u32,
}

impl Book {
    pub(super) fn new(reach: ExternalReach) -> Self {
        Self {
            reach,
            ports: BTreeMap::new(),
            names: BTreeMap::new(),
            surplus: BTreeSet::new(),
            begun: false,
        }
    }

    /// Takes up the names that are needed now, and gives up those that are not.
    pub(super) fn need(&mut self, ports: &BTreeMap<ServicePort, Arc<str>>, now: Instant) {
        self.begun = true;
        self.ports.clone_from(ports);
        let mut namespaces: BTreeMap<&str, BTreeSet<&Arc<str>>> = BTreeMap::new();
        let mut surplus = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for (port, name) in ports {
            let names = namespaces.entry(&port.service.namespace).or_default();
            if names.len() < NAMES || names.contains(name) {
                names.insert(name);
                needed.insert(name);
            } else {
                surplus.insert(name);
            }
        }
        self.surplus = surplus.difference(&needed).map(|name| Arc::clone(name)).collect();
        self.names.retain(|name, _| needed.contains(name));
        for name in needed {
            self.names.entry(Arc::clone(name)).or_insert_with(|| Entry {
                known: None,
                problem: None,
                due: now,
                is_asked: false,
                was_answered: false,
                failures: 0,
            });
        }
    }

    /// The names to ask for now, those first that wait longest; each is asked for from then on.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<Arc<str>> {
        let mut due: Vec<_> =
            self.names.iter_mut().filter(|(_, it)| !it.is_asked && it.due <= now).collect();
        due.sort_by_key(|(_, entry)| entry.due);
        due.truncate(most);
        due.into_iter()
            .map(|(name, entry)| {
                entry.is_asked = true;
                Arc::clone(name)
            })
            .collect()
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.names.values().filter(|entry| !entry.is_asked).map(|entry| entry.due).min()
    }

    /// Nobody will answer what was asked so far.
    pub(super) fn forget_questions(&mut self) {
        self.names.values_mut().for_each(|entry| entry.is_asked = false);
    }

    /// Whether each name that is needed was answered once, well or badly.
    pub(super) fn is_settled(&self) -> bool {
        self.begun && self.names.values().all(|entry| entry.was_answered)
    }

    /// Takes an answer down.
    pub(super) fn note(&mut self, name: &str, answer: Result<Answer, Failure>, now: Instant) {
        // Nobody may need it any more.
        let Some(entry) = self.names.get_mut(name) else { return };
        (entry.is_asked, entry.was_answered) = (false, true);
        let had = entry.problem.take();
        match answer {
            Ok(Answer { addresses, usable, lives }) => {
                let lives = lives.clamp(SHORTEST, LONGEST);
                (entry.failures, entry.due) = (0, now + lives);
                let forbidden =
                    addresses.iter().find_map(|address| self.reach.admit(*address, 1).err());
                // One of several is enough: no owner of a name mixes these up by accident.
                entry.problem = forbidden.map(led_astray);
                entry.known = forbidden.is_none().then_some((usable, now + lives));
            }
            Err(failure) => {
                let wait = RETRY.saturating_mul(1 << entry.failures.min(8)).min(LONGEST_RETRY);
                (entry.failures, entry.due) = (entry.failures.saturating_add(1), now + wait);
                entry.known = entry.known.take().filter(|(_, until)| now < *until + KEPT);
                entry.problem = Some(unanswered(&failure));
            }
        }
        if entry.problem != had {
            if let Some((error, _)) = &entry.problem {
                tracing::info!(resource = name, error, "Something is wrong with an external name");
            } else {
                tracing::info!(resource = name, "External name leads somewhere again");
            }
        }
    }

    /// Where the ports lead.
    pub(super) fn endpoints(&self) -> NamedEndpoints {
        let of = |(port, name): (&ServicePort, &Arc<str>)| {
            let known = self.names.get(name).and_then(|entry| entry.known.as_ref());
            let addresses = known.map(|(addresses, _)| addresses.as_slice()).unwrap_or_default();
            let admitted = addresses.iter().map(|one| self.reach.admit(*one, port.port));
            let admitted: Arc<[EndpointAddress]> = admitted.filter_map(Result::ok).collect();
            (port.clone(), admitted)
        };
        self.ports.iter().map(of).collect()
    }

    /// What is wrong.
    pub(super) fn problems(&self) -> NameProblems {
        let told = self.names.iter().filter_map(|(name, entry)| {
            let (problem, remedy) = entry.problem.clone()?;
            let closes = entry.known.is_none();
            let goes_on = "; the addresses of its last answer are still in use";
            let message = if closes { problem } else { problem + goes_on };
            Some((Arc::clone(name), NameProblem { message, remedy, closes }))
        });
        let surplus = self.surplus.iter().map(|name| {
            let message = format!("is beyond the {NAMES} names that a namespace may have");
            let remedy = "Remove Ingresses that lead to other names.".to_owned();
            (Arc::clone(name), NameProblem { message, remedy, closes: true })
        });
        told.chain(surplus).collect()
    }
}

fn led_astray(Forbidden { address, what, can_be_opened }: Forbidden) -> (String, String) {
    let remedy = if can_be_opened {
        "Name its network in `--external-name-cidrs` if it should be reached; otherwise correct `externalName`, or the record in the DNS."
    } else {
        "No name may lead there: correct `externalName`, or the record in the DNS."
    };
    (format!("is at {address}, {what}"), remedy.to_owned())
}

fn unanswered(failure: &Failure) -> (String, String) {
    let (problem, remedy) = match failure {
        Failure::Nonexistent => (
            "does not exist in the DNS".to_owned(),
            "Correct `externalName`, or create the record.",
        ),
        Failure::Addressless => (
            "has no address in the DNS".to_owned(),
            "Correct `externalName`, or create an A or AAAA record.",
        ),
        Failure::Unanswered(problem) => (
            format!("cannot be looked up: {problem}"),
            "Look at the DNS servers of the program: those of its `/etc/resolv.conf`, or of `--dns-server`.",
        ),
    };
    (problem, remedy.to_owned())
}

#[cfg(test)]
mod tests {
    use decision::refs::{Kind, ResourceRef};

    use super::*;

    const NAME: &str = "api.partner.example";

    fn port(namespace: &str, service: &str, port: u16) -> ServicePort {
        ServicePort { service: ResourceRef::new(Kind::Service, namespace, service), port }
    }

    fn answer(addresses: &[&str], seconds: u64) -> Answer {
        let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        Answer { usable: addresses.clone(), addresses, lives: Duration::from_secs(seconds) }
    }

    /// A book with one name, asked for.
    fn book(now: Instant) -> Book {
        let mut book = Book::new(ExternalReach::default());
        book.need(&[(port("shop", "api", 443), NAME.into())].into(), now);
        assert_eq!(book.due(now, 1), [NAME.into()]);
        assert!(!book.is_settled() && book.due(now, 1).is_empty());
        book
    }

    fn led(book: &Book) -> Vec<String> {
        book.endpoints().values().flat_map(|list| list.iter().map(ToString::to_string)).collect()
    }

    fn wrong(book: &Book) -> Option<(String, bool)> {
        book.problems().remove(NAME).map(|problem| (problem.message, problem.closes))
    }

    fn seconds_until(book: &Book, now: Instant) -> u64 {
        book.next().unwrap().duration_since(now).as_secs()
    }

    #[test]
    fn an_answer_is_used_for_its_time_within_bounds() {
        let now = Instant::now();
        for (lives, expected) in [(0, 5), (60, 60), (86_400, 300)] {
            let mut book = book(now);
            book.note(NAME, Ok(answer(&["192.0.2.7", "192.0.2.8"], lives)), now);
            assert_eq!(led(&book), ["192.0.2.7:443", "192.0.2.8:443"]);
            assert_eq!((seconds_until(&book, now), wrong(&book)), (expected, None));
            assert!(book.is_settled());
        }
    }

    #[test]
    fn without_an_answer_the_last_one_is_used_for_a_while_and_then_none() {
        let now = Instant::now();
        let mut book = book(now);
        book.note(NAME, Ok(answer(&["192.0.2.7"], 60)), now);
        let mut at = now + Duration::from_mins(1);
        let mut waits = Vec::new();
        while !led(&book).is_empty() {
            assert!(at < now + Duration::from_secs(500), "it is kept for ever");
            book.note(NAME, Err(Failure::Nonexistent), at);
            waits.push(seconds_until(&book, at));
            let goes_on = led(&book).len() == 1;
            let told = wrong(&book).unwrap();
            assert_eq!(told.1, !goes_on);
            assert!(told.0.starts_with("does not exist in the DNS"), "{}", told.0);
            at = book.next().unwrap();
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60, 60, 60]);
        book.note(NAME, Ok(answer(&["192.0.2.9"], 60)), at);
        assert_eq!((led(&book), wrong(&book)), (vec!["192.0.2.9:443".to_owned()], None));
    }

    #[test]
    fn one_forbidden_address_closes_the_name_at_once() {
        let now = Instant::now();
        let mut book = book(now);
        book.note(NAME, Ok(answer(&["192.0.2.7"], 60)), now);
        book.note(NAME, Ok(answer(&["169.254.169.254", "192.0.2.7"], 60)), now);
        assert_eq!(led(&book), [] as [&str; 0]);
        let expected = "is at 169.254.169.254, a link-local address";
        assert_eq!(wrong(&book), Some((expected.to_owned(), true)));
        book.note(NAME, Ok(answer(&["10.0.0.1"], 60)), now);
        let told = book.problems().remove(NAME).unwrap();
        assert!(told.message.ends_with("a private address"), "{told:?}");
        assert!(told.remedy.contains("--external-name-cidrs"), "{told:?}");
    }

    #[test]
    fn a_namespace_asks_for_no_more_names_than_its_share() {
        let now = Instant::now();
        let mut book = Book::new(ExternalReach::default());
        let many = (0..NAMES + 2).map(|number| {
            (port("shop", &format!("s{number:03}"), 80), format!("n{number:03}.example").into())
        });
        let last: Arc<str> = format!("n{:03}.example", NAMES + 1).into();
        let others = [(port("zoo", "a", 80), Arc::clone(&last))];
        book.need(&many.chain(others).collect(), now);
        assert_eq!(book.due(now, usize::MAX).len(), NAMES + 1);
        let problems = book.problems();
        let names: Vec<_> = problems.keys().map(|name| &**name).collect();
        assert_eq!(names, [format!("n{NAMES:03}.example")], "another namespace asks for the last");
    }
}
