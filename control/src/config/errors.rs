//! What is wrong with a configuration: all of it at once, each with its place.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong, with its place and the way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Line and column, both from 1, columns in characters; `None` when the file could not be read at all.
    pub place: Option<(usize, usize)>,
    /// The key by its full path, e.g. `circuit.peering.c_tag`; empty when the error is not one key's.
    pub key: String,
    /// What is wrong and the way out, in one line.
    pub message: String,
}

/// Everything that is wrong with one configuration, sorted by place; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    entries: Vec<ConfigError>,
}

impl ConfigErrors {
    /// A single error that concerns the file as a whole.
    pub(super) fn whole_file(file: &str, message: String) -> Self {
        let entries = vec![ConfigError { place: None, key: String::new(), message }];
        Self { file: file.to_owned(), entries }
    }

    /// A single error at a byte offset of `text`.
    pub(super) fn at(file: &str, text: &[u8], offset: usize, message: String) -> Self {
        let place = Some(Lines::new(text).place(text, offset));
        let entries = vec![ConfigError { place, key: String::new(), message }];
        Self { file: file.to_owned(), entries }
    }

    /// The errors, sorted by place.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            write!(f, "{}", self.file)?;
            if let Some((line, column)) = entry.place {
                write!(f, ":{line}:{column}")?;
            }
            if !entry.key.is_empty() {
                write!(f, ": {}", entry.key)?;
            }
            writeln!(f, ": {}", entry.message)?;
        }
        match self.entries.len() {
            1 => write!(f, "1 error"),
            n => write!(f, "{n} errors"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a value stands, and under which key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Byte offset in the text.
    pub offset: usize,
    /// The section's path, e.g. `circuit.peering`; empty at the top.
    pub section: &'static str,
    /// The key in it; empty for the section itself.
    pub key: &'static str,
}

/// A value and its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<T> At<T> {
    /// Another value that stands at the same place.
    pub fn with<U>(&self, value: U) -> At<U> {
        At { value, place: self.place }
    }
}

/// Collects errors while a text is read.
pub(super) struct Report<'t> {
    text: &'t [u8],
    lines: Lines,
    entries: Vec<ConfigError>,
    /// The offsets of `entries`.
    wrong: BTreeSet<usize>,
    /// Every (section, key) that was asked for: what the parser knows.
    known: BTreeSet<(&'static str, &'static str)>,
}

impl<'t> Report<'t> {
    pub fn new(text: &'t str) -> Self {
        let text = text.as_bytes();
        let lines = Lines::new(text);
        Self { text, lines, entries: Vec::new(), wrong: BTreeSet::new(), known: BTreeSet::new() }
    }

    /// Records an error at `place`.
    pub fn error(&mut self, place: Place, message: impl Into<String>) {
        self.error_at(place.offset, join(place.section, place.key), message.into());
    }

    /// As [`Self::error`], unless something is wrong at `place` already: where one change may right both.
    pub fn error_once(&mut self, place: Place, message: impl Into<String>) {
        if !self.wrong.contains(&place.offset) {
            self.error(place, message);
        }
    }

    /// Records an error for a key that is not one of ours.
    pub fn unknown_key(&mut self, offset: usize, section: &str, key: &str, message: String) {
        let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let key = if bare { key.to_owned() } else { format!("{key:?}") };
        self.error_at(offset, join(section, &key), message);
    }

    fn error_at(&mut self, offset: usize, key: String, message: String) {
        let place = Some(self.lines.place(self.text, offset));
        self.wrong.insert(offset);
        self.entries.push(ConfigError { place, key, message });
    }

    /// The line of `place`, from 1, for messages that point at a second place.
    pub fn line(&self, place: Place) -> usize {
        self.lines.place(self.text, place.offset).0
    }

    /// Where the value `text` of `place` begins in the file, behind its quotes; `None` if it stands there with escapes.
    pub fn start_of(&self, place: Place, text: &str) -> Option<usize> {
        let stands =
            |start: &usize| self.text.get(*start..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        // One quote, or three, and then perhaps a line break that does not count.
        [0, 1, 3, 4, 5].into_iter().map(|quotes| place.offset + quotes).find(stands)
    }

    pub fn is_clean(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn knows(&mut self, section: &'static str, key: &'static str) {
        self.known.insert((section, key));
    }

    /// What was asked for so far.
    #[cfg(test)]
    pub fn known(&self) -> &BTreeSet<(&'static str, &'static str)> {
        &self.known
    }

    /// All errors, sorted.
    pub fn into_errors(self, file: &str) -> ConfigErrors {
        let mut entries = self.entries;
        entries.sort();
        entries.dedup();
        ConfigErrors { file: file.to_owned(), entries }
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() || key.is_empty() { format!("{section}{key}") } else { format!("{section}.{key}") }
}

/// Turns offsets into lines and columns.
struct Lines {
    /// The offsets at which lines begin.
    starts: Vec<usize>,
    /// Characters before each block of the text, so that a long line is not counted anew for each error in it.
    blocks: Vec<usize>,
}

/// Bytes of a block.
const BLOCK: usize = 256;

impl Lines {
    fn new(text: &[u8]) -> Self {
        let after_newlines = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1);
        let counts = text.chunks(BLOCK).scan(0, |sum, block| {
            *sum += characters(block);
            Some(*sum)
        });
        Self {
            starts: std::iter::once(0).chain(after_newlines).collect(),
            blocks: std::iter::once(0).chain(counts).collect(),
        }
    }

    /// Line and column of a byte offset, from 1; offsets past the end count as the end.
    fn place(&self, text: &[u8], offset: usize) -> (usize, usize) {
        let offset = offset.min(text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, 1 + self.characters_before(text, offset) - self.characters_before(text, start))
    }

    fn characters_before(&self, text: &[u8], offset: usize) -> usize {
        let block = offset / BLOCK;
        let rest = text.get(block * BLOCK..offset).unwrap_or_default();
        self.blocks.get(block).copied().unwrap_or(0) + characters(rest)
    }
}

/// A character has one byte that is not a UTF-8 continuation byte.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nüb\n\nend".as_bytes();
        let lines = Lines::new(text);
        assert_eq!(lines.place(text, 0), (1, 1));
        assert_eq!(lines.place(text, 2), (2, 1));
        assert_eq!(lines.place(text, 4), (2, 2), "ü is two bytes and one column");
        assert_eq!(lines.place(text, 6), (3, 1));
        assert_eq!(lines.place(text, 9), (4, 3));
        assert_eq!(lines.place(text, 1000), (4, 4), "past the end counts as the end");
        assert_eq!(Lines::new(b"").place(b"", 0), (1, 1));
        let long = format!("x\n{}", "ü".repeat(1000));
        let lines = Lines::new(long.as_bytes());
        for n in [0, 1, 126, 127, 128, 500, 1000] {
            assert_eq!(lines.place(long.as_bytes(), 2 + 2 * n), (2, 1 + n), "blocks do not show");
        }
    }

    #[test]
    fn errors_come_sorted_by_place_with_a_count() {
        let mut report = Report::new("one\ntwo\nthree\n");
        report.error(Place { offset: 8, section: "b", key: "y" }, "late");
        report.error(Place { offset: 1, section: "a", key: "" }, "early");
        report.unknown_key(4, "", "odd key\n", "what?".to_owned());
        let errors = report.into_errors("f.toml");
        assert_eq!(
            errors.to_string(),
            "f.toml:1:2: a: early\nf.toml:2:1: \"odd key\\n\": what?\nf.toml:3:1: b.y: late\n3 errors"
        );
        assert_eq!(errors.iter().count(), errors.count());
    }
}
