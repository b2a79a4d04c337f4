//! Defaults by surroundings, and flags that do not go together.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: ServeFlags,
}

fn flags(line: &[&str]) -> ServeFlags {
    Line::try_parse_from([&["whygate"], line].concat()).map(|line| line.flags).unwrap()
}

fn problem(line: &[&str]) -> String {
    Line::try_parse_from([&["whygate"], line].concat()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn private_peers_are_infrastructure_only_in_a_cluster_and_until_told_otherwise() {
    let office = "10.1.2.3".parse().unwrap();
    let is_infrastructure = |line: &[&str], place| {
        flags(line).dataplane(place).unwrap().address_source.infrastructure.contains(office)
    };
    assert!(is_infrastructure(&[], Surroundings::Cluster));
    assert!(!is_infrastructure(&[], Surroundings::Directory));
    assert!(!is_infrastructure(&["--infrastructure-cidrs", "none"], Surroundings::Cluster));
    assert!(is_infrastructure(&["--infrastructure-cidrs", "10.0.0.0/8"], Surroundings::Directory));
}

#[test]
fn what_runs_beside_the_gateway_in_its_pod_is_no_client() {
    let source = |line: &[&str], place| flags(line).dataplane(place).unwrap().address_source;
    for peer in ["127.0.0.1", "127.8.0.1", "::1"] {
        let peer = peer.parse().unwrap();
        let holds = |source: AddressSource| source.infrastructure.contains(peer);
        assert!(holds(source(&[], Surroundings::Cluster)), "{peer}");
        assert!(!holds(source(&[], Surroundings::Directory)), "{peer}: a trial is made from here");
        assert!(!holds(source(&["--infrastructure-cidrs=none"], Surroundings::Cluster)), "{peer}");
    }
}

#[test]
fn a_listener_is_repeatable_and_can_be_off() {
    let flags =
        flags(&["--http-listen", "127.0.0.1:1", "--http-listen=[::1]:2", "--https-listen", "off"]);
    let settings = flags.dataplane(Surroundings::Cluster).unwrap();
    assert_eq!(settings.http.len(), 2);
    assert_eq!(settings.https, []);
}

#[test]
fn a_demo_is_served_on_loopback_alone() {
    let settings = flags(&[]).dataplane(Surroundings::Demo).unwrap();
    assert!(settings.http.iter().chain(&settings.https).all(|address| address.ip().is_loopback()));
}

#[test]
fn a_redirect_leads_to_the_port_that_clients_reach() {
    let port = |line: &[&str], place| flags(line).dataplane(place).unwrap().redirect_port;
    let here = Surroundings::Directory;
    assert_eq!(port(&["--https-listen", "127.0.0.1:9443"], here), Some(9443));
    assert_eq!(port(&["--https-listen", "127.0.0.1:443"], here), None);
    assert_eq!(port(&["--https-listen", "127.0.0.1:0"], here), Some(0), "the one that is picked");
    assert_eq!(port(&["--https-listen", "off"], here), None);
    assert_eq!(port(&["--https-listen", "127.0.0.1:9443"], Surroundings::Cluster), None);
}

#[test]
fn a_header_without_trusted_proxies_is_refused() {
    let flags = flags(&["--client-address", "header:x-forwarded-for"]);
    let error = flags.dataplane(Surroundings::Cluster).unwrap_err().to_string();
    assert!(error.contains("--trusted-proxies"), "{error}");
}

#[test]
fn trusted_proxies_without_a_header_are_refused() {
    let flags = flags(&["--trusted-proxies", "192.0.2.0/24"]);
    let error = flags.dataplane(Surroundings::Cluster).unwrap_err().to_string();
    assert!(error.contains("--client-address"), "{error}");
}

#[test]
fn a_wrong_value_is_told_with_its_flag_and_what_would_be_right() {
    for (line, right) in [
        (["--http-listen", "8080"], "127.0.0.1:8080"),
        (["--trusted-proxies", "10.0.0.0/33"], "10.0.0.0/33"),
        (["--client-address", "proxy"], "header:x-forwarded-for"),
        (["--host-namespaces", "shop"], "*.example.com=shop"),
        (["--default-tls-secret", "shop"], "NAMESPACE/NAME"),
        (["--threads", "0"], "from 1"),
        (["--stream-limit-count", "0"], "from 1"),
        (["--max-objects-per-namespace", "many"], "from 1"),
    ] {
        let text = problem(&line);
        assert!(text.contains(line[0]) && text.contains(right), "{text}");
    }
}

#[test]
fn a_namespace_has_a_cap_that_can_be_raised_and_not_taken_away() {
    let most = |line: &[&str]| {
        let settings = flags(line).ingresses.compile(Surroundings::Directory);
        settings.max_objects_per_namespace.get()
    };
    assert_eq!(most(&[]), 5_000);
    assert_eq!(most(&["--max-objects-per-namespace", "7"]), 7);
    let text = problem(&["--max-objects-per-namespace", "0"]);
    assert!(text.contains("--max-objects-per-namespace"), "{text}");
}

#[test]
fn a_limit_that_is_not_given_is_the_data_planes_own() {
    let given = flags(&["--uri-limit-bytes", "100"]).limits.limits();
    let expected = dataplane::Limits { uri_bytes: 100, ..dataplane::Limits::default() };
    assert_eq!(format!("{given:?}"), format!("{expected:?}"));
}
