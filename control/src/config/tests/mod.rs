//! Tests of the configuration as a whole, from text to model or errors.

mod crossing;
mod errors;
mod examples;
mod hostile;
mod model;
mod policies;
mod sessions;

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

/// Replaces `from` by `to` in the complete text. There must be one error, on the line of `to` that has the key,
/// and its message must hold each of `parts`.
#[track_caller]
fn one(from: &str, to: &str, key: &str, parts: &[&str]) {
    let text = altered(from, to);
    let start = COMPLETE.find(from).expect("altered() has seen it");
    let last = key.rsplit('.').next().unwrap_or(key);
    let within = to.lines().position(|line| line.contains(last)).unwrap_or(0);
    expect_one(&text, text[..start].matches('\n').count() + within, key, parts);
}

/// As [`one`], but the error must be on the first line that has `at`.
#[track_caller]
fn one_error(from: &str, to: &str, at: &str, key: &str, parts: &[&str]) {
    let text = altered(from, to);
    let start = text.find(at).unwrap_or_else(|| panic!("{at:?} is not in the altered text"));
    expect_one(&text, text[..start].matches('\n').count(), key, parts);
}

/// The tables `more` at the end of the complete text give one error, on their line `line` from 0.
#[track_caller]
fn one_added(more: &str, line: usize, key: &str, parts: &[&str]) {
    expect_one(&format!("{COMPLETE}{more}\n"), COMPLETE.matches('\n').count() + line, key, parts);
}

#[track_caller]
fn expect_one(text: &str, line: usize, key: &str, parts: &[&str]) {
    let errors = errors_of(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let start = format!("{} {key}: ", line + 1);
    assert!(errors[0].starts_with(&start), "{start:?} in {errors:#?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} in {errors:#?}");
    }
}
