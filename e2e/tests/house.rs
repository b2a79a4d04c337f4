//! The rules of the house that a compiler doesn't know: who may import whom, and how things lie.
#![expect(clippy::unwrap_used, reason = "a repository that can't be read is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// What may lie at the top besides hidden files, which hold tools' settings.
const TOP_LEVEL: [&str; 12] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "charts",
    "controller",
    "crds",
    "dataplane",
    "deploy",
    "e2e",
    "rust-toolchain.toml",
];

/// Each crate and the crates of ours that it may know.
const EDGES: [(&str, &[&str]); 6] = [
    ("decision", &[]),
    ("crds", &[]),
    ("compile", &["crds", "decision"]),
    ("dataplane", &["decision"]),
    ("controller", &["compile", "crds", "dataplane", "decision"]),
    ("e2e", &["compile", "decision"]),
];

/// Everything that the judging engine is made of. A new line here is a change of architecture.
const DECISION: [&str; 12] = [
    "aws-lc-rs",
    "base64",
    "foldhash",
    "http",
    "ipnet",
    "jsonwebtoken",
    "regex",
    "rustls-pki-types",
    "rustls-webpki",
    "serde",
    "serde_json",
    "x509-parser",
];

/// What opens sockets or waits: not for crates that are given values and give values back.
const WORLD: [&str; 8] =
    ["axum", "hyper", "kube-client", "kube-runtime", "mio", "reqwest", "tokio", "tower"];

/// Longest source file, in lines.
const LONGEST: usize = 700;

#[test]
fn a_crate_knows_only_the_crates_below_it() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = names(&metadata.workspace_packages());
    let expected: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, below)| (*name, below.iter().copied().collect())).collect();
    let found: BTreeMap<&str, BTreeSet<&str>> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let direct = package.dependencies.iter().map(|dependency| dependency.name.as_str());
            (package.name.as_str(), direct.filter(|name| ours.contains(name)).collect())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn decision_is_made_of_nothing_but_its_list() {
    let metadata = metadata();
    let decision = package(&metadata, "decision");
    let direct: BTreeSet<&str> = decision
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .collect();
    assert_eq!(direct, BTreeSet::from(DECISION));
}

#[test]
fn decision_has_no_world_and_no_kubernetes() {
    assert_none(&tree("decision"), |name| is_world(name) || is_kubernetes(name) || is_yaml(name));
}

#[test]
fn compile_has_no_client_and_no_runtime() {
    assert_none(&tree("compile"), is_world);
}

#[test]
fn crds_have_no_client_and_no_runtime() {
    assert_none(&tree("crds"), is_world);
}

#[test]
fn dataplane_has_no_kubernetes_and_no_yaml() {
    assert_none(&tree("dataplane"), |name| is_kubernetes(name) || is_yaml(name));
}

#[test]
fn types_of_the_inner_crates_are_never_serialized() {
    let mut found = Vec::new();
    for folder in ["dataplane/decision/src", "dataplane/src", "controller/compile/src"] {
        for path in sources().into_iter().filter(|path| path.starts_with(folder)) {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let derives = text.split("derive(").skip(1).filter_map(|rest| rest.split(')').next());
            found.extend(derives.filter(|list| list.contains("Serialize")).map(|_| path.clone()));
        }
    }
    assert!(found.is_empty(), "what is shown is a type of its own, at the edge: {found:?}");
}

#[test]
fn no_source_file_is_longer_than_700_lines() {
    let length = |path: &PathBuf| fs::read_to_string(root().join(path)).unwrap().lines().count();
    let sources = sources();
    assert!(sources.len() > 20, "only {} sources were looked at", sources.len());
    let long: Vec<_> = sources.into_iter().filter(|path| length(path) > LONGEST).collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn top_level_holds_what_it_should_and_nothing_else() {
    let tracked = git(&["ls-files"]);
    let top: BTreeSet<&str> = tracked
        .lines()
        .filter_map(|path| path.split('/').next())
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert_eq!(top, BTreeSet::from(TOP_LEVEL));
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let mut lines = manifest.lines().skip_while(|line| line.trim() != "[lints]").skip(1);
        assert_eq!(lines.next(), Some("workspace = true"), "{}", package.manifest_path);
    }
}

#[test]
fn one_script_installs_packages_of_debian_and_keeps_their_services_from_starting() {
    let scripts = git(&["grep", "--untracked", "--files-with-matches", "-E", "^ *apt-get "]);
    assert_eq!(scripts.lines().collect::<Vec<_>>(), ["e2e/install-packages"]);
    let text = fs::read_to_string(root().join("e2e/install-packages")).unwrap();
    let (before, _) = text.split_once("apt-get install").unwrap();
    assert!(before.contains("policy-rc.d") && before.contains("exit 101"), "{text}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Metadata {
    let offline = ["--offline".to_owned()];
    MetadataCommand::new().current_dir(root()).no_deps().other_options(offline).exec().unwrap()
}

fn names<'a>(packages: &[&'a Package]) -> BTreeSet<&'a str> {
    packages.iter().map(|package| package.name.as_str()).collect()
}

fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    metadata.workspace_packages().into_iter().find(|package| package.name == name).unwrap()
}

/// Everything in a program that uses this crate alone. The metadata's graph joins the features that
/// all crates ask for, and would show a client wherever one crate of ours has one.
fn tree(name: &str) -> BTreeSet<String> {
    let cargo = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", name, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let text = String::from_utf8(cargo.stdout).unwrap();
    let tree: BTreeSet<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(tree.contains(name), "{text}");
    tree
}

fn assert_none(tree: &BTreeSet<String>, forbidden: impl Fn(&str) -> bool) {
    let found: Vec<&String> = tree.iter().filter(|name| forbidden(name)).collect();
    assert!(found.is_empty(), "{found:?}");
}

fn is_world(name: &str) -> bool {
    WORLD.contains(&name)
}

fn is_kubernetes(name: &str) -> bool {
    name.starts_with("kube") || name.starts_with("k8s")
}

fn is_yaml(name: &str) -> bool {
    name.contains("yaml") || name.contains("saphyr")
}

/// All Rust sources of the repository, tracked or about to be, relative to its root.
fn sources() -> Vec<PathBuf> {
    let listed = git(&["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    listed.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

fn git(arguments: &[&str]) -> String {
    let git = Command::new("git").args(arguments).current_dir(root()).output().unwrap();
    assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout).unwrap()
}
