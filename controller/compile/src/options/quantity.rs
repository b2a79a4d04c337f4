//! Durations and numbers of bytes in annotations.

use std::{ops::RangeInclusive, time::Duration};

use super::reader::Wrong;

/// A duration as everywhere in our manifests (`30s`, `1m30s`, `500ms`), within a range.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let remedy = format!(
        "Write a duration from {:?} to {:?}, as in `30s`, `1m30s` or `500ms`.",
        range.start(),
        range.end()
    );
    match crds::parse_duration(text) {
        Some(duration) if range.contains(&duration) => Ok(duration),
        Some(_) => Err(Wrong::new(format!("`{text}` is out of range"), remedy)),
        None => Err(Wrong::new(format!("`{text}` is not a duration"), remedy)),
    }
}

/// A number of bytes: a whole number, alone or with the unit `Ki`, `Mi` or `Gi`.
pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    let unit = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size): (&str, u64) = unit.unwrap_or((text, 1));
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = number.parse::<u64>().ok().filter(|_| digits);
    let bytes = bytes.and_then(|number| number.checked_mul(size)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not a number of bytes"),
            "Write a whole number above 0, alone or with `Ki`, `Mi` or `Gi`, as in `512Ki` or `10Mi`; without the annotation there is no limit.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_of_bytes_with_binary_units() {
        for (text, expected) in
            [("1", 1), ("512", 512), ("1Ki", 1 << 10), ("10Mi", 10 << 20), ("2Gi", 2 << 30)]
        {
            assert_eq!(bytes(text).ok(), Some(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "0Mi",
            "-1",
            "+1",
            "1.5Mi",
            "10M",
            "10m",
            "10 Mi",
            "Mi",
            "1e3",
            "99999999999Gi",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_kept_within_their_range() {
        let range = || Duration::from_millis(100)..=Duration::from_mins(5);
        for (text, milliseconds) in [("100ms", 100), ("5s", 5_000), ("5m", 300_000)] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(duration(text, range()).ok(), expected, "{text}");
        }
        for text in ["", "0s", "99ms", "301s", "5", "5 s", "-5s", "1d", "18446744073709551615h"] {
            assert!(duration(text, range()).is_err(), "{text}");
        }
    }
}
