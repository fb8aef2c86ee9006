//! The configurations of docs/fpm-and-netlink.md, so that what it says is what runs.

/// The block of the page whose fence is followed by `language name`.
#[track_caller]
pub fn block(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fpm-and-netlink.md");
    let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let start = page
        .find(&format!("```{name}\n"))
        .unwrap_or_else(|| panic!("no block `{name}` in {}", path.display()));
    let inside = page[start..].split_once('\n').expect("a fence is a line").1;
    inside.split("```").next().expect("at least one part").to_owned()
}

/// Replaces what must stand in a block once, so that a test need not wait for a minute.
#[track_caller]
pub fn hurry(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    text.replace(from, to)
}
