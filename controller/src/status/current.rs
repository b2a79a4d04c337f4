//! What objects hold now, and what was written into them.

use std::collections::HashMap;

use compile::{Resources, reference};
use decision::refs::{Kind, ResourceRef};
use serde_json::{Value, json};

/// An object by its name and uid.
pub(super) type Key = (ResourceRef, Option<String>);

/// A status as it was last written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The status.
    pub(super) value: Value,
    /// The version of the object that we knew then: as long as we know no other, the watch has not
    /// caught up with our write, or the API server saw no change in it.
    pub(super) over: Option<String>,
}

impl Written {
    /// Whether it should stand still, and somebody put something else in its place.
    pub(super) fn is_overwritten(&self, object: &Object, desired: &Value) -> bool {
        self.value == *desired && self.over != object.version
    }
}

/// What objects hold now, as far as it was read.
#[derive(Debug)]
pub(super) struct Current {
    /// Those of our kinds.
    pub(super) ours: HashMap<ResourceRef, Object>,
    /// The Ingresses.
    pub(super) ingresses: HashMap<ResourceRef, Object>,
}

/// What one object holds.
#[derive(Debug)]
pub(super) struct Object {
    /// Its uid.
    pub(super) uid: Option<String>,
    /// Its resource version.
    pub(super) version: Option<String>,
    status: Option<Value>,
}

impl Object {
    pub(super) fn new(metadata: &kube::core::ObjectMeta, status: Option<Value>) -> Self {
        let (uid, version) = (metadata.uid.clone(), metadata.resource_version.clone());
        Self { uid, version, status }
    }

    /// The status that stands. What we wrote counts until the object moves on: whatever it says
    /// then is the truth, even if a stranger wrote it.
    pub(super) fn status<'a>(&'a self, written: Option<&'a Written>) -> Option<&'a Value> {
        let ours = written.filter(|written| written.over == self.version);
        ours.map(|written| &written.value).or(self.status.as_ref())
    }
}

impl Current {
    /// Of all that was read.
    pub(super) fn of(resources: &Resources) -> Self {
        let kinds = [
            (Kind::AccessPolicy, &resources.access_policies),
            (Kind::AccessPlan, &resources.access_plans),
            (Kind::AccessSubscription, &resources.access_subscriptions),
        ];
        let ours = kinds.into_iter().flat_map(|(kind, objects)| {
            objects.iter().map(move |object| {
                let metadata = &object.metadata;
                let status = object.value.get("status").cloned();
                (reference(kind, metadata), Object::new(metadata, status))
            })
        });
        let ingresses = resources.ingresses.iter().map(|ingress| {
            let entries = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let status = entries.map(|it| json!({ "loadBalancer": it }));
            let metadata = &ingress.metadata;
            (reference(Kind::Ingress, metadata), Object::new(metadata, status))
        });
        Self { ours: ours.collect(), ingresses: ingresses.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, status: &Value) -> Object {
        Object { uid: None, version: Some(version.to_owned()), status: Some(status.clone()) }
    }

    #[test]
    fn a_status_is_overwritten_if_it_should_stand_and_another_does() {
        let (ours, foreign) = (json!({ "a": 2 }), json!({ "a": 3 }));
        let written = Written { value: ours.clone(), over: Some("10".to_owned()) };
        assert!(written.is_overwritten(&object("12", &foreign), &ours));
        assert!(!written.is_overwritten(&object("10", &foreign), &ours), "the watch is behind");
        assert!(!written.is_overwritten(&object("12", &foreign), &foreign), "we want another now");
    }

    #[test]
    fn what_a_stranger_wrote_over_our_status_is_what_stands() {
        let (before, ours, foreign) = (json!({ "a": 1 }), json!({ "a": 2 }), json!({ "a": 3 }));
        let written = Written { value: ours.clone(), over: Some("10".to_owned()) };
        let status =
            |version, status: &Value| object(version, status).status(Some(&written)).cloned();
        assert_eq!(status("10", &before), Some(ours.clone()), "the watch is behind our write");
        assert_eq!(status("11", &ours), Some(ours.clone()));
        assert_eq!(status("12", &foreign), Some(foreign));
    }
}
