//! Files: places, broken documents, lists, kinds.

use compile::manifest::{self, Manifests};
use decision::refs::{FieldRef, Kind, ResourceRef};

use crate::world::{OFFICE, World, api, check, check_findings, policy};

const POLICY: &str = "# A comment, and a blank line.

apiVersion: v1
kind: ConfigMap
metadata:
  name: a
---
apiVersion: whygate.dev/v1alpha1
kind: AccessPolicy
metadata:
  name: office
  namespace: shop
  annotations:
    example.com/a: b
spec:
  targetRefs:
  - { group: networking.k8s.io, kind: Ingress, name: api }
  require:
  - name: office
    ip:
      cidrs:
      - 192.0.2.0/24
      - 10.0.0.1/8
";

fn read(text: &str) -> Manifests {
    manifest::read([("a.yaml".to_owned(), text.to_owned())])
}

#[test]
fn every_field_has_a_line_and_a_column() {
    let manifests = read(POLICY);
    let policy = ResourceRef::new(Kind::AccessPolicy, "shop", "office");
    for (path, line, column) in [
        ("spec.require[0].ip.cidrs[1]", 23, 9),
        ("spec.require[0].ip", 20, 5),
        ("spec.require[0].name", 19, 5),
        ("spec.targetRefs[0].name", 17, 48),
        ("spec.targetRefs[0]", 17, 5),
        ("metadata.annotations['example.com/a']", 14, 5),
        ("spec.require[0].jwt.provider", 19, 5),
        ("spec.deny", 15, 1),
        ("manifest", 8, 1),
    ] {
        let found = manifests.locate(&FieldRef::new(policy.clone(), path));
        let found = found.map(|found| (found.line, found.column));
        assert_eq!(found, Some((line, column)), "{path}");
    }
    let nobody = ResourceRef::new(Kind::AccessPolicy, "shop", "nobody");
    assert_eq!(manifests.locate(&FieldRef::new(nobody, "spec")), None);
}

#[test]
fn a_broken_document_takes_no_other_with_it() {
    let text = api() + "a: [1\n---\n" + &policy("office", OFFICE);
    check(&text, &[("GET api.example.com/", "AddressNotAllowed")]);
    let world = World::of(&text);
    let problem = &world.manifests.problems[0];
    assert!(problem.message.starts_with("not readable as YAML: "), "{problem}");
    assert_eq!(world.manifests.problems.len(), 1);
}

#[test]
fn the_line_of_a_broken_document_is_that_of_the_file() {
    let world = World::of("a: 1\n---\n# comment\nb: 2\nb: 3\n");
    assert_eq!(world.manifests.problems[1].line, 5, "{:?}", world.manifests.problems);
}

#[test]
fn a_broken_document_that_may_hold_policies_closes_the_namespaces_that_it_names() {
    let broken = policy("office", OFFICE).replace(']', "");
    check(&(api() + &broken), &[("GET api.example.com/", "PolicyUnenforceable")]);
    let elsewhere = broken.replace("namespace: shop", "namespace: other");
    check(&(api() + &elsewhere), &[("GET api.example.com/", "shop/api:80")]);
}

#[test]
fn a_broken_namespace_that_says_closed_does_not_open() {
    let broken = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { whygate.dev/posture: Closed }\n";
    check(&(api() + broken), &[("GET api.example.com/", "PolicyUnenforceable")]);
}

#[test]
fn a_misspelt_kind_of_our_group_is_told_and_closes_its_namespace() {
    let text = api() + &policy("office", OFFICE).replace("kind: AccessPolicy", "kind: AccesPolicy");
    check(&text, &[("GET api.example.com/", "PolicyUnenforceable")]);
    let world = World::of(&text);
    let problem = &world.manifests.problems[0];
    assert_eq!(problem.message, "`AccesPolicy` is not a kind of whygate.dev");
    assert!(problem.remedy.contains("`AccessPolicy`"), "{problem}");
}

#[test]
fn a_policy_of_a_group_that_is_nearly_ours_is_told_and_closes_its_namespace() {
    for (right, wrong) in [
        ("whygate.dev/v1alpha1", "v1"),
        ("whygate.dev/v1alpha1", "whygate.io/v1alpha1"),
        ("apiVersion: whygate.dev/v1alpha1\n", ""),
        ("kind: AccessPolicy", "kind: accesspolicy"),
    ] {
        let text = api() + &policy("office", OFFICE).replace(right, wrong);
        check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyUnenforceable")]);
    }
    let stranger = api() + &policy("office", OFFICE).replace("whygate.dev", "example.com");
    check(&stranger, &[("GET api.example.com/", "shop/api:80")]);
    check_findings(&stranger, &[]);
}

#[test]
fn a_misspelt_subscription_closes_no_route() {
    let text = api() + &policy("office", OFFICE).replace("AccessPolicy", "AccessSubscripton");
    check(&text, &[("GET api.example.com/", "shop/api:80")]);
    assert_eq!(World::of(&text).manifests.problems.len(), 1);
}

#[test]
fn an_unknown_version_of_ours_closes_what_it_names() {
    let text = api() + &policy("office", OFFICE).replace("v1alpha1", "v2");
    check(&text, &[("GET api.example.com/ 192.0.2.7", "PolicyInvalid")]);
}

#[test]
fn lists_are_opened_and_kinds_without_use_passed_over() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: apps/v1, kind: Deployment, metadata: { name: a } }\n- { apiVersion: v1, kind: Service, metadata: { name: api }, spec: { ports: [{ port: 80 }] } }\n";
    let manifests = read(text);
    assert_eq!(manifests.problems, []);
    let service = &manifests.resources.services[0];
    assert_eq!(service.metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn an_old_version_of_ingress_is_told() {
    let text = api().replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1");
    check_findings(
        &text,
        &["a.yaml:17:1: `Ingress` of version `networking.k8s.io/v1beta1` is not read"],
    );
}

#[test]
fn an_object_that_stands_twice_is_told() {
    let text = api() + &policy("office", OFFICE) + &policy("office", &OFFICE.replace("192", "193"));
    let world = World::of(&text);
    assert_eq!(world.manifests.problems.len(), 1, "{:?}", world.manifests.problems);
    assert_eq!(world.ask("GET api.example.com/ 192.0.2.7"), "AddressNotAllowed");
    assert_eq!(world.ask("GET api.example.com/ 193.0.2.7"), "AddressNotAllowed");
}

#[test]
fn a_document_without_kind_or_name_is_told() {
    check_findings("a: 1\n", &["a.yaml:1:1: not a manifest"]);
    check_findings(
        "apiVersion: v1\nkind: Service\nmetadata: {}\n",
        &["a.yaml:1:1: Service without `metadata.name`"],
    );
}

#[test]
fn string_data_of_a_secret_becomes_data() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: { name: a }\ndata: { a: Yg== }\nstringData: { c: d }\n";
    let manifests = read(text);
    let data = manifests.resources.secrets[0].data.as_ref().expect("data");
    assert_eq!((&*data["a"].0, &*data["c"].0), (&b"b"[..], &b"d"[..]));
}
