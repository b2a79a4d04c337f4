//! What a client says of content codings means the same however it is written.

use decision::options::compression::Coding;
use http::{HeaderMap, HeaderValue, header};
use proptest::{collection::vec, prelude::*, sample::select};

fn members() -> impl Strategy<Value = Vec<String>> {
    let names = select(vec!["gzip", "x-gzip", "br", "identity", "*", "deflate"]);
    let weights = select(vec!["", ";q=0", ";q=0.4", ";q=0.5", ";q=1", ";q=1.000", ";q=x"]);
    vec((names, weights).prop_map(|(name, weight)| format!("{name}{weight}")), 0..6)
}

fn accepted(lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> bool {
    let mut headers = HeaderMap::new();
    for line in lines {
        let line = HeaderValue::from_bytes(line.as_ref()).unwrap();
        headers.append(header::ACCEPT_ENCODING, line);
    }
    Coding::Gzip.is_accepted(&headers)
}

proptest! {
    #[test]
    fn order_lines_case_and_white_space_change_nothing(members in members()) {
        let expected = accepted([members.join(",")]);
        let mut turned = members.clone();
        turned.reverse();
        prop_assert_eq!(accepted([turned.join(",")]), expected, "{:?} turned round", members);
        prop_assert_eq!(accepted(&members), expected, "{:?} on lines of their own", members);
        let spaced = members.join(" ,\t").replace(';', " ; ").to_ascii_uppercase();
        prop_assert_eq!(accepted([&spaced]), expected, "{}", spaced);
    }

    #[test]
    fn who_refuses_a_coding_never_gets_it(members in members(), at in 0_usize..6) {
        let mut refusing = members.clone();
        refusing.insert(at.min(members.len()), "gzip;q=0".to_owned());
        prop_assert!(!accepted([refusing.join(",")]), "{:?}", refusing);
    }

    #[test]
    fn who_does_not_name_it_does_not_get_it(members in members()) {
        let unnamed: Vec<_> =
            members.iter().filter(|one| !one.contains("gzip") && !one.contains('*')).collect();
        let line = unnamed.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(",");
        prop_assert!(!accepted([line]), "{:?}", unnamed);
    }

    #[test]
    fn a_further_coding_of_others_changes_nothing(members in members()) {
        let more = members.iter().cloned().chain(["zstd;q=0.9".to_owned()]).collect::<Vec<_>>();
        prop_assert_eq!(accepted([more.join(",")]), accepted([members.join(",")]));
    }

    #[test]
    fn no_value_is_too_strange_to_be_answered(bytes in vec(any::<u8>(), 0..64)) {
        if HeaderValue::from_bytes(&bytes).is_ok() {
            let _ = accepted([bytes]);
        }
    }
}
