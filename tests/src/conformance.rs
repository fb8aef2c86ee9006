//! What docs/conformance.md says is tested: each test that it names must exist.

use std::fs;
use std::path::{Path, PathBuf};

/// A test that the page names.
#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// A file.
    File(&'a str),
    /// A test in a file.
    Test(&'a str, &'a str),
    /// A step of a suite.
    Step(&'a str, &'a str),
}

/// The tests that a text names in backticks: `path`, `path: name` with more names behind commas, `suite::step`.
fn named(text: &str) -> Vec<Named<'_>> {
    let mut all = Vec::new();
    let mut file = None;
    let is_name = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let parts: Vec<&str> = text.split('`').collect();
    for pair in parts.chunks(2) {
        let [before, code] = *pair else { break };
        if before != ", " {
            file = None;
        }
        match (code.split_once(": "), code.split_once("::")) {
            (Some((path, name)), _) if path.ends_with(".rs") => {
                file = Some(path);
                all.push(Named::Test(path, name));
            }
            (_, Some((suite, step))) if is_name(suite) && is_name(step) => all.push(Named::Step(suite, step)),
            _ if code.ends_with(".rs") => all.push(Named::File(code)),
            _ => all.extend(file.filter(|_| is_name(code)).map(|file| Named::Test(file, code))),
        }
    }
    all
}

/// All Rust files under a folder, joined.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text += &fs::read_to_string(&path).unwrap_or_default();
        }
    }
    text
}

#[test]
fn each_test_that_the_page_names_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/conformance.md")).expect("docs/conformance.md");
    let steps = sources(&root.join("tests/src"));
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let (mut found, mut missing) = (0, Vec::new());
    // What stands above the first table says how tests are named.
    for test in page.lines().skip_while(|line| !line.starts_with("| section")).flat_map(named) {
        let exists = match test {
            Named::File(path) => read(path).is_some(),
            Named::Test(path, name) => read(path).is_some_and(|text| text.contains(&format!("fn {name}("))),
            Named::Step(suite, step) => {
                let file = format!("tests/tests/{suite}.rs");
                let of_ours = read(&file).is_some_and(|text| text.contains("Suite::new"));
                of_ours && steps.contains(&format!("\"{step}\","))
            }
        };
        found += 1;
        if !exists {
            missing.push(test);
        }
    }
    assert!(found > 90, "only {found} tests were found in the page");
    assert!(missing.is_empty(), "docs/conformance.md names tests that are not there: {missing:#?}");
}

#[test]
fn names_are_read() {
    let text = "| 1 | `martian_source` | judge; `a/b.rs: one`, `two`; `suite::step`; `three` in `c.rs` |";
    let expected = [
        Named::Test("a/b.rs", "one"),
        Named::Test("a/b.rs", "two"),
        Named::Step("suite", "step"),
        Named::File("c.rs"),
    ];
    assert_eq!(named(text), expected);
}
