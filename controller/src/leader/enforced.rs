//! What a replica enforces, small enough for an annotation of its Lease.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use compile::Status;
use decision::refs::ResourceRef;

/// How many groups the objects are divided into. Two replicas agree on an object if they agree on
/// its group: the more groups, the less does a change of one object say about another.
const GROUPS: usize = 256;

/// A check sum of every group of objects: of their names and generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforced([u32; GROUPS]);

impl Default for Enforced {
    fn default() -> Self {
        Self([0; GROUPS])
    }
}

impl Enforced {
    /// What is enforced once these statuses may be written. Their order has no effect.
    pub fn of(statuses: &[Status]) -> Self {
        let mut sums = [0; GROUPS];
        for status in statuses {
            let mut text = status.resource.to_string();
            let (_, group) = hash(&text);
            // Writing to a String cannot fail.
            let _ = write!(text, "@{}", status.generation.unwrap_or_default());
            let (sum, _) = hash(&text);
            if let Some(kept) = sums.get_mut(group) {
                *kept ^= sum;
            }
        }
        Self(sums)
    }

    /// Whether another replica enforces an object as this one does.
    pub fn agrees(&self, other: &Self, object: &ResourceRef) -> bool {
        let (_, group) = hash(&object.to_string());
        self.0.get(group) == other.0.get(group)
    }

    /// Reads what [`Enforced::text`] wrote; nothing if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let (sums, rest) = bytes.as_chunks::<4>();
        let sums: Vec<_> = sums.iter().map(|sum| u32::from_be_bytes(*sum)).collect();
        sums.try_into().ok().map(Self).filter(|_| rest.is_empty())
    }

    /// About 1.4 kB of base64.
    pub fn text(&self) -> String {
        let bytes: Vec<_> = self.0.iter().flat_map(|sum| sum.to_be_bytes()).collect();
        STANDARD.encode(bytes)
    }
}

/// A check sum, and which group of it.
fn hash(text: &str) -> (u32, usize) {
    let sum = digest(&SHA256, text.as_bytes());
    let sum = sum.as_ref().first_chunk::<4>().map_or(0, |first| u32::from_be_bytes(*first));
    (sum, usize::try_from(sum).unwrap_or(0) % GROUPS)
}

#[cfg(test)]
mod tests {
    use compile::conditions::{Details, PolicyStatus};
    use decision::refs::Kind;

    use super::*;

    fn status(name: &str, generation: i64) -> Status {
        Status {
            resource: ResourceRef::new(Kind::AccessPolicy, "shop", name),
            generation: Some(generation),
            conditions: Vec::new(),
            details: Details::Policy(PolicyStatus::default()),
        }
    }

    #[test]
    fn replicas_agree_on_what_they_have_alike_in_whatever_order() {
        let (one, two) = (status("one", 1), status("two", 7));
        let here = Enforced::of(&[one.clone(), two.clone()]);
        assert_eq!(here, Enforced::of(&[two, one.clone()]));
        let there = Enforced::of(&[one.clone(), status("two", 8)]);
        assert!(here.agrees(&there, &one.resource));
        assert!(!here.agrees(&there, &status("two", 7).resource), "another generation");
        let empty = Enforced::default();
        assert!(!here.agrees(&empty, &one.resource), "not there at all");
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else() {
        let here = Enforced::of(&[status("one", 1)]);
        assert_eq!(Enforced::parse(&here.text()), Some(here));
        for text in ["", "AAAA", "?"] {
            assert_eq!(Enforced::parse(text), None);
        }
    }
}
