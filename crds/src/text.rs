//! What can be wrong with a text.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{
    nearest::nearest,
    pattern,
    shape::{Format, TextShape},
};

/// How much of a wrong text a message repeats, in characters.
const SHOWN: usize = 80;

/// Everything that is wrong with the text, one sentence each.
pub(crate) fn faults(text: &str, shape: &TextShape) -> Vec<String> {
    if !shape.choices.is_empty() {
        return not_a_choice(text, &shape.choices).into_iter().collect();
    }
    let length = too_short(text, shape.shortest)
        .or_else(|| shape.longest.and_then(|longest| too_long(text, longest)));
    if length.is_some() {
        return length.into_iter().collect();
    }
    let form = shape.pattern.as_ref().filter(|pattern| !pattern.is_match(text));
    let form =
        form.map(|wanted| format!("`{}` must be {}", shown(text), pattern::form(wanted.as_str())));
    form.into_iter().chain(shape.format.and_then(|format| not_of_format(text, format))).collect()
}

/// A sentence if the text has more than this many characters.
pub(crate) fn too_long(text: &str, longest: u64) -> Option<String> {
    // Not more characters than bytes: nearly always nobody has to count them.
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= longest) {
        return None;
    }
    let length = characters(text);
    (length > longest).then(|| format!("has {length} characters: at most {longest} are allowed"))
}

fn too_short(text: &str, shortest: u64) -> Option<String> {
    if shortest <= 1 && (shortest == 0 || !text.is_empty()) {
        return None;
    }
    match characters(text) {
        length if length >= shortest => None,
        0 => Some("is empty: give it a value, or leave the field out".to_owned()),
        length => Some(format!("has {length} characters: give at least {shortest}")),
    }
}

fn characters(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

fn not_a_choice(text: &str, choices: &[String]) -> Option<String> {
    if choices.iter().any(|choice| choice == text) {
        return None;
    }
    let names: Vec<_> = choices.iter().map(String::as_str).collect();
    let known = names.join("`, `");
    let hint = nearest(text, &names).map(|name| format!(": did you mean `{name}`?"));
    Some(format!("`{}` is not one of `{known}`{}", shown(text), hint.unwrap_or_default()))
}

fn not_of_format(text: &str, format: Format) -> Option<String> {
    match format {
        Format::Cidr => not_a_network(text),
        Format::DateTime => text.parse::<Timestamp>().err().map(|_| {
            format!("`{}` is not a time: write it as in `2027-06-30T00:00:00Z`", shown(text))
        }),
    }
}

/// Judges the form only: bits behind the prefix are the compiler's business.
fn not_a_network(text: &str) -> Option<String> {
    let Some((address, prefix)) = text.split_once('/') else {
        let network = shown(text);
        let remedy = match text.parse() {
            Ok(IpAddr::V4(_)) => format!("write `{network}/32` for a single address"),
            Ok(IpAddr::V6(_)) => format!("write `{network}/128` for a single address"),
            Err(_) => "write it as in `198.51.100.0/24` or `2001:db8::/32`".to_owned(),
        };
        return Some(format!("`{network}` is not a network: {remedy}"));
    };
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => {
            let (network, address) = (shown(text), shown(address));
            return Some(format!("`{network}` is not a network: `{address}` is not an address"));
        }
    };
    let is_number = prefix == "0"
        || (!prefix.starts_with('0') && prefix.bytes().all(|digit| digit.is_ascii_digit()));
    match prefix.parse::<u32>() {
        Ok(length) if is_number && length <= longest => None,
        Ok(_) | Err(_) => Some(format!(
            "`{}` is not a network: the prefix length is a number from 0 to {longest}",
            shown(text)
        )),
    }
}

/// The beginning of a text, so that no message grows with its input and none holds
/// a control character.
pub(crate) fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(SHOWN) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
