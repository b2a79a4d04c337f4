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
    let world = World::of(&text);
    assert_eq!(world.manifests.resources.access_policies.len(), 1);
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

/// A policy whose namespace is the last word before its `spec`.
const CUT: &str = "apiVersion: whygate.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { name: office, namespace: shop }\nspec:\n  targetRefs: [{ group: networking.k8s.io, kind: Ingress, name: api }]\n  require:\n  - name: office\n    ip: { cidrs: [198.51.100.0/24] }\n";

#[test]
fn no_policy_that_is_cut_off_opens_its_route() {
    let block =
        CUT.replace("{ name: office, namespace: shop }", "\n  name: office\n  namespace: shop");
    let spec = block.find("spec:").unwrap() + "spec:".len();
    let alone: Vec<_> = (1..CUT.len()).filter_map(|end| CUT.get(..end)).collect();
    let cuts = alone.into_iter().chain((1..spec).filter_map(|end| block.get(..end)));
    for cut in cuts {
        let world = World::of_files(&[&api(), cut]);
        let answer = world.ask("GET api.example.com/ 192.0.2.7");
        assert_ne!(answer, "shop/api:80", "{cut:?}: {:#?}", world.findings());
    }
}

#[test]
fn a_text_that_is_none_closes_every_namespace_and_the_finding_names_it() {
    let utf16: Vec<u8> = CUT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16 = String::from_utf8_lossy(&utf16).into_owned();
    let filled = format!("{}\0\0\0\0", CUT.split("op }").next().unwrap());
    for text in [utf16.as_str(), &filled, "\0\0\0\0", "%\u{fffd}", "\u{fffd}\u{1}{", "a: [1\n"] {
        let world = World::of_files(&[&api(), text]);
        assert_eq!(world.ask("GET api.example.com/"), "PolicyUnenforceable", "{text:?}");
        let findings = world.findings();
        assert!(findings.iter().any(|it| it.contains("namespace `shop`")), "{findings:#?}");
    }
}

#[test]
fn yaml_that_is_no_manifest_closes_nothing() {
    for text in [
        "replicas: 2\nimage: { tag: a }\n",
        "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
        "- one\n- two\n",
        "# a comment\n",
        "%YAML 1.2\n---\n",
        "null\n",
    ] {
        let world = World::of_files(&[&api(), text]);
        assert_eq!(world.ask("GET api.example.com/"), "shop/api:80", "{text:?}");
    }
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
