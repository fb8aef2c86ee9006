//! What was executed: instructions by address, and who calls whom from where.

use std::collections::HashMap;

/// A function in a program or library.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    pub object: String,
    pub name: String,
}

/// A call: from where, and what was executed in it and below.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Function,
    pub address: u64,
    pub instructions: u64,
}

/// What was executed.
#[derive(Debug, Default)]
pub struct Profile {
    /// Of each function, instructions by address.
    pub own: HashMap<Function, Vec<(u64, u64)>>,
    /// Of each function, the calls to it.
    pub calls: HashMap<Function, Vec<Call>>,
}
