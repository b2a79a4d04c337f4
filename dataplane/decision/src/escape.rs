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

/// Shows a text in which something of a manifest stands, a name, a path, a whole sentence, as
/// printable ASCII. `…` stays: it is how we show that something was cut.
///
/// An API server lets nobody call an object `a\nb`, but a file does, and in values nothing keeps
/// away the characters that turn the direction of a line or take no room in it. What was escaped
/// once is not changed by doing it again.
pub fn printable(text: &str) -> impl fmt::Display + '_ {
    let is_plain = |character: char| matches!(character, ' '..='~' | '…');
    fmt::from_fn(move |f| {
        // Nearly every text: bytes are looked at many at a time, characters one by one.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(text);
        }
        let mut rest = text;
        while let Some((at, other)) = rest.char_indices().find(|(_, other)| !is_plain(*other)) {
            let (plain, after) = rest.split_at(at);
            write!(f, "{plain}{}", other.escape_unicode())?;
            rest = after.get(other.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)
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
    fn nothing_that_turns_or_hides_a_text_gets_through_and_escaping_twice_is_escaping_once() {
        let format = "\u{ad}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\
            \u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{fff9}\u{e0001}";
        for character in format.chars().chain('\0'..' ').chain('\u{7f}'..='\u{a0}') {
            let text = format!("a{character}b…");
            let shown = printable(&text).to_string();
            assert_eq!(shown, format!("a{}b…", character.escape_unicode()));
            assert_eq!(printable(&shown).to_string(), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(quoted("abcdef", 3).to_string(), "`abc…`");
    }
}
