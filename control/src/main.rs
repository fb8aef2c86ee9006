//! The program `turnpike`.

fn main() {}
