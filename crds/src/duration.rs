//! Durations as users write them: `60s`, `1m30s`, `250ms`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes whole seconds as `60s`, anything finer in milliseconds.
pub(crate) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*duration))
}

/// Reads a duration, or says how one is written.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!("`{text}` is not a duration: write it as in `30s` or `1m30s`"))
    })
}

fn text(duration: Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// Reads a duration: the sum of parts such as `1m30s`, with the units `ms`, `s`, `m` and `h`. `None`
/// if a part has no number or no known unit.
pub fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) =
            after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        total = total.checked_add(part(number.parse().ok()?, unit)?)?;
        rest = after;
    }
    Some(total)
}

fn part(number: u64, unit: &str) -> Option<Duration> {
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_duration_is_added_up() {
        let seconds = |text| parse(text).map(|duration| duration.as_secs_f64());
        assert_eq!(
            ["60s", "1m30s", "250ms", "1h", "0s"].map(seconds),
            [Some(60.0), Some(90.0), Some(0.25), Some(3600.0), Some(0.0)]
        );
    }

    #[test]
    fn text_that_is_no_duration_is_refused() {
        let refused = ["", "s", "60", "1d", "1m x", "-1s", "99999999999999999999s"];
        assert_eq!(refused.map(parse), [None; 7]);
    }

    #[test]
    fn a_written_duration_reads_back_the_same() {
        for duration in [Duration::from_mins(1), Duration::from_millis(1500), Duration::ZERO] {
            assert_eq!(parse(&text(duration)), Some(duration));
        }
    }
}
