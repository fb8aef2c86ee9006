//! The configurations of docs/bgp.md, so that what it says is what runs.

use std::path::Path;

/// The code block number `index` under a heading of docs/bgp.md.
#[track_caller]
pub fn block(heading: &str, index: usize) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bgp.md");
    let page = std::fs::read_to_string(&page).expect("docs/bgp.md");
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("docs/bgp.md has no section {heading}"));
    let block =
        section.split("```").nth(2 * index + 1).unwrap_or_else(|| panic!("{heading}: no block {index}"));
    block.split_once('\n').expect("a block of lines").1.to_owned()
}

/// Puts `more` in front of the one place in a block that begins with `mark`.
#[track_caller]
pub fn insert(block: &str, mark: &str, more: &str) -> String {
    assert_eq!(block.matches(mark).count(), 1, "{mark:?} in\n{block}");
    block.replace(mark, &format!("{more}{mark}"))
}
