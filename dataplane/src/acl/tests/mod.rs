//! Access lists against a plain list of rules that are tried one after another.

mod fields;
mod model;
