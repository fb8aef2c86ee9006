//! What the attributes of one peer's routes take of memory, exactly: each set of attributes is booked to an account
//! while it lives. So a peer that gives every route long attributes of its own is told from one with many routes.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are booked to one peer.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<AtomicUsize>);

impl Account {
    /// Bytes of all that lives.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Books `bytes` for as long as the charge lives.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge(Some((self.clone(), bytes)))
    }
}

/// Bytes that are booked; a copy books them again. It makes no difference to what it is a part of.
#[derive(Debug, Default)]
pub struct Charge(Option<(Account, usize)>);

impl Clone for Charge {
    fn clone(&self) -> Self {
        self.0.as_ref().map_or(Self(None), |(account, bytes)| account.charge(*bytes))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((account, bytes)) = &self.0 {
            account.0.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}

impl Hash for Charge {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_is_booked() {
        let account = Account::default();
        let first = account.charge(100);
        let second = first.clone();
        assert_eq!(account.bytes(), 200);
        drop(first);
        assert_eq!(account.bytes(), 100);
        drop(second);
        assert_eq!(account.bytes(), 0);
    }
}
