//! The configuration: its model, and how a TOML file becomes one.
//!
//! A text passes three stages. The sections are read into drafts, values with their places (`sections`,
//! `circuit`, `bgp`). Names become indices and what spans several sections is checked (`assemble`,
//! `check`, `references`). Errors gather on the way, so that a user sees all of them at once; only a text
//! without any becomes a [`Config`].

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

pub mod acl;
mod address;
mod assemble;
mod bgp;
mod bgp_filter;
mod bgp_references;
mod check;
mod circuit;
mod draft;
mod errors;
mod limits;
pub mod model;
mod names;
mod policy;
mod references;
mod section;
mod sections;
mod session_warnings;
pub(crate) mod suggest;
mod tables;
mod tap;
#[cfg(test)]
mod tests;
mod values;
mod vrfs;
mod warnings;

pub use errors::{ConfigError, ConfigErrors};
pub use model::Config;
pub use warnings::warnings;

use errors::Report;

/// Where the API listens unless `[api] socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/turnpike.sock";

/// Largest file that is read, in bytes; thousands of circuits fit.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads the configuration from a file.
///
/// # Errors
/// Everything that is wrong with it, or that the file is missing, a directory, unreadable, too large, or not text.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|message| ConfigErrors::whole_file(&name, message))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let message = "not UTF-8 text: is this a TOML file?".to_owned();
        ConfigErrors::at(&name, &bytes, error.valid_up_to(), message)
    })?;
    parse(&name, text)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let explain = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => {
            "no such file; examples are in `examples/`, all keys in docs/configuration.md".to_owned()
        }
        ErrorKind::PermissionDenied => "may not be read by this user: change its owner or mode".to_owned(),
        ErrorKind::IsADirectory => "is a directory: name the file in it".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(explain)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(explain)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {LARGEST_FILE} bytes: is this a configuration?"));
    }
    Ok(bytes)
}

/// Reads the configuration from `text`; `name` stands for the file in errors.
///
/// # Errors
/// Everything that is wrong with it, in one go; a text that is not TOML gives one error, at its place.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigErrors> {
    let root = toml_span::parse(text).map_err(|error| {
        let message = format!("not valid TOML: {error}").replace('\n', " ");
        ConfigErrors::at(name, text.as_bytes(), error.span.start, message)
    })?;
    let mut report = Report::new(text);
    let draft = sections::document(&root, &mut report);
    assemble::assemble(draft, &mut report).ok_or_else(|| {
        if report.is_clean() {
            ConfigErrors::whole_file(name, "has more than 65535 ports, VRFs or interfaces".to_owned())
        } else {
            report.into_errors(name)
        }
    })
}
