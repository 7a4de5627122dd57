//! The `encaje` binary.
fn main() {}
