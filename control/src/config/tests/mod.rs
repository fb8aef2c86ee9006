//! Tests of the configuration as a whole, from text to model or errors.

mod errors;
mod examples;
mod hostile;
mod model;

use super::parse;

/// A valid text with every section, which tests alter.
const COMPLETE: &str = include_str!("complete.toml");

/// The errors of `text` as `line key: message`, sorted by place.
fn errors_of(text: &str) -> Vec<String> {
    match parse("t.toml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|e| format!("{} {}: {}", e.place.map_or(0, |(line, _)| line), e.key, e.message))
            .collect(),
    }
}

/// `COMPLETE` with `from`, which must be in it, replaced by `to`.
fn altered(from: &str, to: &str) -> String {
    assert_eq!(COMPLETE.matches(from).count(), 1, "{from:?} must stand once in the complete text");
    COMPLETE.replacen(from, to, 1)
}
