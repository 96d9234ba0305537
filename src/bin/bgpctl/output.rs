//! The one way to standard output. Peers choose host names, versions and texts of notifications; none of that
//! may reach the terminal as anything but text. Whatever is printed passes through here, so no caller can forget.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

/// What the operator wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Standard output.
pub(crate) struct Output<W: Write> {
    out: io::BufWriter<W>,
    format: Format,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W, format: Format) -> Self {
        Self { out: io::BufWriter::new(out), format }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints lines; whatever else in it is not printable is escaped.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(escape(text, Escape::Text).as_bytes())
    }

    /// Prints one document.
    pub(crate) fn json<T: Serialize>(&mut self, document: &T) -> Result<(), crate::Failure> {
        let text = serde_json::to_string_pretty(document)?;
        self.out.write_all(escape(&text, Escape::Json).as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Prints one document in a line of its own, without the end of the line.
    pub(crate) fn json_line<T: Serialize>(&mut self, document: &T) -> Result<(), crate::Failure> {
        let text = serde_json::to_string(document)?;
        Ok(self.out.write_all(escape(&text, Escape::Json).as_bytes())?)
    }

    /// Hands over what was printed so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One line, or one cell of a table: everything that is not printable is escaped, ends of lines too.
pub(crate) fn printable(text: &str) -> String {
    escape(text, Escape::Text).replace('\n', "\\n").replace('\t', "\\t")
}

/// The daemon's own text, which may have several lines: each is escaped as [`printable`] does it.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[derive(Debug, Clone, Copy)]
enum Escape {
    Text,
    /// Outside of its strings JSON is ASCII, so that what is replaced is always inside one.
    Json,
}

fn escape(text: &str, form: Escape) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if is_plain(c) {
            safe.push(c);
            return safe;
        }
        // Writing to a String cannot fail.
        let _ = match form {
            Escape::Text => write!(safe, "{}", c.escape_unicode()),
            Escape::Json => {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(safe, "\\u{unit:04x}"))
            }
        };
        safe
    })
}

/// Ends of lines, tabs, and what Unicode calls printable: no C0 or C1 control, no DEL, no change of the
/// writing direction, nothing invisible.
fn is_plain(c: char) -> bool {
    match c {
        '\n' | '\t' | '\'' | '"' | '\\' => true,
        // The standard library's idea of "printable" is what Debug leaves as it is.
        _ => c.escape_debug().eq([c]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "tor1\u{1b}]0;owned\u{7}\u{9b}31m\u{7f}\u{202e}\r\u{200b}\u{e0041}";

    #[test]
    fn control_characters_become_text() {
        assert_eq!(
            printable(HOSTILE),
            "tor1\\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{7f}\\u{202e}\\u{d}\\u{200b}\\u{e0041}"
        );
        assert_eq!(printable("two\nlines\tand"), "two\\nlines\\tand");
        assert_eq!(printable_lines("two\nlines\tand\r\n\u{1b}[2J"), "two\nlines\\tand\\u{d}\n\\u{1b}[2J");
        assert_eq!(printable("Zürich \"a\" 'b' c:\\d 東京"), "Zürich \"a\" 'b' c:\\d 東京");
    }

    #[test]
    fn json_keeps_its_meaning_and_is_harmless() {
        let mut written = Vec::new();
        let mut output = Output::new(&mut written, Format::Json);
        output.json(&vec![HOSTILE]).unwrap();
        output.flush().unwrap();
        drop(output);
        let text = String::from_utf8(written).unwrap();
        assert!(text.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_control())), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [HOSTILE]);
    }

    #[test]
    fn text_keeps_its_lines() {
        let mut written = Vec::new();
        let mut output = Output::new(&mut written, Format::Text);
        output.text("a\n\tb\u{1b}[2J\n").unwrap();
        output.flush().unwrap();
        drop(output);
        assert_eq!(String::from_utf8(written).unwrap(), "a\n\tb\\u{1b}[2J\n");
    }
}
