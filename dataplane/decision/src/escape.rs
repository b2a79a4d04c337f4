//! The one escaper for everything that a stranger may have written.

use std::fmt;

/// Shows at most `limit` bytes of a text as printable ASCII, in backticks.
///
/// Other characters appear as `\u{..}`, so that no log line, Event or terminal can be made to say
/// something else. A text that was cut ends in `…`.
pub fn quoted(text: &str, limit: usize) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        let mut room = limit;
        f.write_str("`")?;
        for character in text.chars() {
            let printable = matches!(character, ' '..='~') && character != '`' && character != '\\';
            let width = if printable { 1 } else { character.escape_unicode().count() };
            if width > room {
                return f.write_str("…`");
            }
            room -= width;
            if printable {
                write!(f, "{character}")?;
            } else {
                write!(f, "{}", character.escape_unicode())?;
            }
        }
        f.write_str("`")
    })
}

/// Shows a text of a manifest as printable ASCII: what an object is called, what stands in a field.
///
/// An API server lets nobody call an object `a\nb`, but a file does.
pub fn printable(text: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        text.chars().try_for_each(|character| match character {
            ' '..='~' => write!(f, "{character}"),
            other => write!(f, "{}", other.escape_unicode()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_printable_ascii_gets_through() {
        assert_eq!(quoted("a\n\u{1b}[31m`é", 40).to_string(), r"`a\u{a}\u{1b}[31m\u{60}\u{e9}`");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(quoted("abcdef", 3).to_string(), "`abc…`");
    }
}
