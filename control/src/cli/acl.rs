//! `turnpike acl reload`: puts the access lists of the configuration file in force.

use std::path::Path;

use super::print;
use crate::api::client::Client;
use crate::api::{Order, view};

/// Has the turnpike at `socket` reload its access lists, and prints what came of it.
///
/// # Errors
/// No turnpike answers, or something is wrong with the file; then nothing has changed.
pub fn reload(file: Option<&Path>, socket: &Path) -> Result<(), String> {
    print(&format!("{}\n", ask_for_reload(file, socket)?))
}

/// Has the turnpike at `socket` reload its access lists. Returns what came of it, in words.
///
/// # Errors
/// As for [`reload`].
pub fn ask_for_reload(file: Option<&Path>, socket: &Path) -> Result<String, String> {
    // The router may have been started elsewhere: it needs the full path.
    let file = file.map(std::path::absolute).transpose().map_err(|error| error.to_string())?;
    let told = Client::connect(socket).and_then(|mut client| client.ask(&Order::ReloadAcls { file }));
    let value = told.map_err(|error| error.to_string())?;
    let done: view::AclReload = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(format!(
        "{} access lists with {} rules are in force; {} rules stood before and count on",
        done.lists, done.rules, done.kept
    ))
}
