//! What is wrong with a configuration, said the way a compiler says it.
//!
//! In: problems as the other modules find them, each with its place in the text. Out: a [`ConfigError`], whose
//! `Display` is plain text for logs and `bgpctl`, and whose [`ConfigError::render`] may paint for a terminal.

use std::io;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Problems shown of one file; the rest is counted. More than a screen of them helps nobody, and a file of a
/// megabyte can hold a hundred thousand.
const MAX_SHOWN: usize = 20;

/// Longest quotation of the file in a message, in characters.
const MAX_QUOTED: usize = 60;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be opened or read.
    #[error("{file}: cannot read: {source}")]
    Read {
        /// Path as given.
        file: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path names a directory.
    #[error("{file}: is a directory, not a file")]
    Directory {
        /// Path as given.
        file: String,
    },
    /// The path names a pipe, a socket or a device.
    #[error("{file}: is not a regular file")]
    NotAFile {
        /// Path as given.
        file: String,
    },
    /// Refused before parsing.
    #[error("{file}: is larger than {limit} bytes, which no configuration is")]
    TooLarge {
        /// Path as given.
        file: String,
        /// Most that is accepted, in octets.
        limit: u64,
    },
    /// It was read while the daemon runs, which has a configuration that is whole.
    #[error("{file}: does not end with a newline: it may be cut off")]
    CutOff {
        /// Path as given.
        file: String,
    },
    /// TOML is UTF-8 by definition.
    #[error("{file}:{line}: is not UTF-8: byte {byte:#04x} (number {offset} of the file) is out of place")]
    NotUtf8 {
        /// Path as given.
        file: String,
        /// Line of the first wrong octet, from 1.
        line: usize,
        /// Place of the first wrong octet in the file, from 1.
        offset: usize,
        /// The octet.
        byte: u8,
    },
    /// No text, or nothing but white space.
    #[error("{file}: is empty: [bgp] with `local-as` is the least that is required")]
    Empty {
        /// Path as given.
        file: String,
    },
    /// The text says something that is not allowed.
    #[error("{}", render(file, text, problems, Paint::Plain))]
    Invalid {
        /// Path as given.
        file: String,
        /// The whole file, to quote from.
        text: String,
        /// At least one, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// The message for a person: one line, or a paragraph for each problem, without a newline at the end.
    #[must_use]
    pub fn render(&self, paint: Paint) -> String {
        match self {
            Self::Read { .. }
            | Self::Directory { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::CutOff { .. }
            | Self::NotUtf8 { .. }
            | Self::Empty { .. } => format!("error: {self}"),
            Self::Invalid { file, text, problems } => render(file, text, problems, paint),
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// To a file, a log or another program.
    Plain,
    /// To a terminal.
    Terminal,
}

/// One thing that is wrong in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, with the key and its table.
    pub title: String,
    /// Where.
    pub place: Place,
    /// What is the matter at that place.
    pub label: String,
    /// Another place that has to do with it, and what is there.
    pub related: Option<(Range<usize>, String)>,
    /// What is allowed.
    pub help: Vec<String>,
}

/// A place in the text, in octets from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To be quoted.
    Quoted(Range<usize>),
    /// Only to be named, because what stands there may be a secret.
    Named(Range<usize>),
    /// Nowhere: something is missing.
    File,
}

impl Place {
    /// Sorts problems in the order of the file; what is missing comes last.
    fn start(&self) -> usize {
        match self {
            Self::Quoted(span) | Self::Named(span) => span.start,
            Self::File => usize::MAX,
        }
    }
}

/// A reader refuses with this. Boxed: a problem is large beside the values that are read.
pub(super) type Refusal = Box<Problem>;

/// Problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, problem: impl Into<Refusal>) {
        self.0.push(*problem.into());
    }

    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Refusal>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, or `None` when it was refused, which is kept.
    pub(super) fn keep<T>(&mut self, result: Result<T, Refusal>) -> Option<T> {
        result.map_err(|problem| self.push(problem)).ok()
    }

    /// In the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| problem.place.start());
        self.0
    }
}

/// A piece of the file inside a message: short, and with nothing in it that moves a terminal's cursor.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        quoted.push_str("...");
    }
    quoted
}

fn render(file: &str, text: &str, problems: &[Problem], paint: Paint) -> String {
    let renderer = match paint {
        Paint::Plain => Renderer::plain(),
        Paint::Terminal => Renderer::styled(),
    }
    .decor_style(DecorStyle::Ascii);
    let mut paragraphs: Vec<String> = problems
        .iter()
        .take(MAX_SHOWN)
        .map(|problem| renderer.render(&[paragraph(file, text, problem)]))
        .collect();
    let hidden = problems.len().saturating_sub(MAX_SHOWN);
    if hidden > 0 {
        paragraphs.push(format!("error: {hidden} more in {file}"));
    }
    paragraphs.join("\n\n")
}

fn paragraph<'a>(file: &'a str, text: &'a str, problem: &'a Problem) -> Group<'a> {
    let group = Group::with_title(Level::ERROR.primary_title(problem.title.as_str()));
    let group = match &problem.place {
        Place::Quoted(span) => {
            let here = AnnotationKind::Primary.span(inside(text, span)).label(problem.label.as_str());
            let there = problem
                .related
                .as_ref()
                .map(|(span, label)| AnnotationKind::Context.span(inside(text, span)).label(label.as_str()));
            group.element(
                Snippet::source(text)
                    .path(file)
                    .annotation(here)
                    .annotations(there.into_iter().collect::<Vec<_>>()),
            )
        }
        Place::Named(span) => group
            .element(Origin::path(file).line(line(text, span.start)))
            .element(Level::NOTE.message(problem.label.as_str())),
        Place::File => group.element(Origin::path(file)).element(Level::NOTE.message(problem.label.as_str())),
    };
    group.elements(problem.help.iter().map(|help| Level::HELP.message(help.as_str())))
}

/// The span cut to the text and to whole characters, so that quoting it cannot fail.
fn inside(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end);
    start..end.max(start)
}

/// The line of an octet, from 1.
fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}
