//! Which Ingresses are ours.

use std::sync::Arc;

use decision::refs::{Kind, ResourceRef};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

use crate::{
    finding::{Effect, Findings, Problem, Reason},
    index::Index,
    settings::Settings,
};

const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
pub(crate) const LEGACY: &str = "kubernetes.io/ingress.class";

/// How an Ingress came to be ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class<'a> {
    /// The `IngressClass`, if it exists as an object.
    pub(crate) object: Option<&'a Arc<IngressClass>>,
}

/// The class of an Ingress of ours; `None` for those of other controllers.
///
/// `spec.ingressClassName` goes before the older annotation. A name is ours if it is the one of the
/// settings and no `IngressClass` gives it to another controller, or that of an `IngressClass` that
/// names our controller. Without a name: if an `IngressClass` of ours is the default one, or if the
/// settings say so.
pub(crate) fn of<'a>(
    ingress: &Ingress,
    index: &Index<'a>,
    settings: &Settings,
) -> Option<Class<'a>> {
    match name(ingress) {
        Some(name) => named(name, index, settings),
        None => default(index, settings).or_else(|| {
            settings.watch_ingress_without_class.then(|| Class {
                object: index.classes.get(settings.ingress_class.as_str()).copied(),
            })
        }),
    }
}

/// The class that an Ingress names, in the field or in the older annotation.
pub(crate) fn name(ingress: &Ingress) -> Option<&str> {
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotations = ingress.metadata.annotations.as_ref();
    field.or_else(|| annotations.and_then(|all| all.get(LEGACY)).map(String::as_str))
}

fn named<'a>(name: &str, index: &Index<'a>, settings: &Settings) -> Option<Class<'a>> {
    let object = index.classes.get(name).copied();
    let ours = match object {
        Some(class) => is_ours(class, settings),
        None => name == settings.ingress_class,
    };
    ours.then_some(Class { object })
}

fn default<'a>(index: &Index<'a>, settings: &Settings) -> Option<Class<'a>> {
    let is_default = |class: &IngressClass| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(IS_DEFAULT)).is_some_and(|value| value == "true")
    };
    let mut classes = index.classes.values();
    classes
        .find(|class| is_ours(class, settings) && is_default(class))
        .map(|class| Class { object: Some(class) })
}

fn is_ours(class: &IngressClass, settings: &Settings) -> bool {
    controller(class) == settings.controller_name
}

/// What `spec.controller` says; empty without it.
fn controller(class: &IngressClass) -> &str {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default()
}

/// Tells of the class that the settings call ours and that is another controller's.
pub(crate) fn tell(index: &Index<'_>, settings: &Settings, findings: &mut Findings) {
    let name = settings.ingress_class.as_str();
    let Some(class) = index.classes.get(name).filter(|class| !is_ours(class, settings)) else {
        return;
    };
    let problem = Problem::new(
        "spec.controller",
        format!(
            "it is `{}`, and ours is `{}`: Ingresses of this class are not served",
            controller(class),
            settings.controller_name
        ),
        "Start the program with the `--ingress-class` or `--controller-name` that is meant, or create the IngressClass anew.",
    );
    let resource = ResourceRef::new(Kind::IngressClass, "", name);
    findings.add(&resource, Reason::ClassConflict, Effect::Rejects, problem);
}
