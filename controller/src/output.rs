//! The only place that prints.

use std::io::{self, IsTerminal, Write};

/// A line of the result. A reader that has gone is no error of ours.
pub fn line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A line of a result that has an end.
///
/// # Errors
/// If nobody reads any more; then there is nothing more to do.
pub fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// A text of the result as it is, without a further line end.
pub fn text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Why the program cannot go on: one sentence.
pub fn error(sentence: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "whygate: {sentence}");
}

/// A remark beside the result.
pub fn remark(sentence: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{sentence}");
}

/// A number with what it counts.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Whether results may have colours: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// A style of the terminal.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// What a reader looks for first.
    Strong,
    /// What is wrong.
    Warning,
    /// What is fine.
    Good,
    /// What can be skipped.
    Faint,
}

/// A text in a style, where there are colours.
pub fn styled(text: &str, style: Style) -> String {
    if !has_colour() {
        return text.to_owned();
    }
    let code = match style {
        Style::Strong => 1,
        Style::Warning => 33,
        Style::Good => 32,
        Style::Faint => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
