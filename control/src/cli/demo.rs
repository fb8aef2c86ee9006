//! `turnpike demo`.

/// Placeholder.
pub fn demo(_seconds: u64) -> Result<(), String> {
    Ok(())
}
