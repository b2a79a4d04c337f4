//! Objects whose definition was taken away. Nobody deleted them one by one, so they stay in force
//! until they are installed again, or the program ends.

use std::{collections::HashMap, sync::Arc};

use kube::runtime::reflector::ObjectRef;

use super::Stored;

/// The objects that were in the store when the definition went away, and have not come back.
#[derive(Debug)]
pub(super) struct Orphans<K: Stored> {
    /// Whether the next complete list is that of another definition.
    bereft: bool,
    objects: HashMap<ObjectRef<K>, Arc<K>>,
}

impl<K: Stored> Default for Orphans<K> {
    fn default() -> Self {
        Self { bereft: false, objects: HashMap::new() }
    }
}

impl<K: Stored> Orphans<K> {
    /// The definition is gone: what the next list lacks was not deleted by anybody.
    pub(super) fn bereave(&mut self) {
        self.bereft = true;
    }

    /// There is a complete list that follows on `before`.
    pub(super) fn list(&mut self, before: Vec<Arc<K>>, listed: &[Arc<K>], of: &K::DynamicType) {
        let reference = |object: &Arc<K>| ObjectRef::from_obj_with(&**object, of.clone());
        if self.bereft {
            self.objects.extend(before.into_iter().map(|object| (reference(&object), object)));
            self.bereft = false;
        }
        for object in listed {
            self.objects.remove(&reference(object));
        }
    }

    /// An object is there again, or was deleted by itself.
    pub(super) fn release(&mut self, reference: &ObjectRef<K>) {
        self.objects.remove(reference);
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = Arc<K>> {
        self.objects.values().map(Arc::clone)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }
}
