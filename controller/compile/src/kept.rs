//! Policies that need not be compiled again: those that nothing but their own text decides.

use std::sync::Arc;

use decision::refs::Kind;

use crate::{
    access_policy::{self, Compiled},
    finding::Findings,
    index::Index,
    map::{Map, with_room},
    plan::Plans,
    resources::Object,
    rule::Fields,
};

/// Compiled policies, by the place of their objects in memory, which the objects keep taken.
#[derive(Clone, Debug, Default)]
pub struct Kept(Map<usize, (Arc<Object>, Arc<Compiled>)>);

/// Compiles all policies, in the order of their names. Those that nothing but their text decides, and
/// that were compiled in `before`, are taken from there.
pub(crate) fn compile_all(
    objects: &[Arc<Object>],
    index: &Index<'_>,
    plans: &Plans,
    before: &Kept,
    findings: &mut Findings,
) -> (Vec<Arc<Compiled>>, Kept) {
    let (mut kept, mut fields) = (Kept(with_room(objects.len())), Fields::default());
    let mut policies = Vec::with_capacity(objects.len());
    for object in objects {
        // Which objects are beyond the cap changes with the others.
        let known = before
            .of(object)
            .filter(|_| index.surplus(Kind::AccessPolicy, &object.metadata).is_none());
        let policy = known.cloned().unwrap_or_else(|| {
            Arc::new(access_policy::compile(object, (index, plans, &mut fields), findings))
        });
        kept.add(object, &policy);
        policies.push(policy);
    }
    policies.sort_by(|one, two| one.resource.cmp(&two.resource));
    (policies, kept)
}

impl Kept {
    /// What became of the very same object.
    fn of(&self, object: &Arc<Object>) -> Option<&Arc<Compiled>> {
        self.0.get(&place(object)).map(|(_, compiled)| compiled)
    }

    /// Keeps a policy if no other object, and nothing that was told of it, belongs to it.
    fn add(&mut self, object: &Arc<Object>, compiled: &Arc<Compiled>) {
        if compiled.is_alone {
            self.0.insert(place(object), (Arc::clone(object), Arc::clone(compiled)));
        }
    }
}

fn place(object: &Arc<Object>) -> usize {
    Arc::as_ptr(object).addr()
}
