//! Network namespaces by name, as `ip netns` makes them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

/// A namespace, for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(pub Option<String>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "the network namespace `{name}`"),
            None => f.write_str("the current network namespace"),
        }
    }
}

/// Why a namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name cannot be one of a file.
    #[error("`{0}` cannot name a network namespace: a name has no `/`, and is not empty, `.` or `..`")]
    InvalidName(String),
    /// There is none of that name.
    #[error("there is no network namespace `{0}`: make it with `ip netns add {0}`")]
    Missing(String),
    /// The file is there, but no namespace is mounted on it.
    #[error(
        "{DIRECTORY}/{0} is a plain file, not a network namespace: `ip netns delete {0}`, then `ip netns add {0}`"
    )]
    NotANamespace(String),
    /// We lack the privilege.
    #[error(
        "entering the network namespace `{0}` is not permitted: run turnpike as root, or with CAP_NET_ADMIN and \
         CAP_SYS_ADMIN"
    )]
    NotPermitted(String),
    /// Another error of the system.
    #[error("cannot enter the network namespace `{name}`: {source}")]
    Other {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs `work` inside `namespace`, on a short-lived thread of its own, so that the caller stays where it is. What
/// `work` opens there (sockets, TAPs) stays in that namespace. `None`: runs it right here.
///
/// # Errors
/// What `work` returns, or a [`NetnsError`] when the namespace cannot be entered.
pub fn run_in<T, E>(namespace: Option<&str>, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<NetnsError> + Send,
{
    let Some(name) = namespace else { return work() };
    let file = open(name)?;
    std::thread::scope(|scope| {
        let inside = || {
            enter(name, &file)?;
            work()
        };
        match std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(source) => Err(NetnsError::Other { name: name.into(), source }.into()),
        }
    })
}

fn open(name: &str) -> Result<File, NetnsError> {
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(NetnsError::InvalidName(name.into()));
    }
    File::open(format!("{DIRECTORY}/{name}")).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => NetnsError::Missing(name.into()),
        io::ErrorKind::PermissionDenied => NetnsError::NotPermitted(name.into()),
        _ => NetnsError::Other { name: name.into(), source },
    })
}

fn enter(name: &str, file: &File) -> Result<(), NetnsError> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|errno| match errno {
        rustix::io::Errno::PERM => NetnsError::NotPermitted(name.into()),
        rustix::io::Errno::INVAL => NetnsError::NotANamespace(name.into()),
        _ => NetnsError::Other { name: name.into(), source: errno.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "../../proc/1/ns/net", "a\0b"] {
            assert!(matches!(open(name), Err(NetnsError::InvalidName(_))), "{name:?}");
        }
    }

    #[test]
    fn a_missing_namespace_says_how_to_make_it() {
        let error = run_in::<(), NetnsError>(Some("tpk-none"), || panic!("must not run")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no network namespace `tpk-none`: make it with `ip netns add tpk-none`"
        );
    }
}
