//! A fuzz target.

/// A function for a fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called, and the folder of its corpus.
    pub name: &'static str,
    /// Checks one input. Tells whether it was understood; panics where a promise is broken.
    pub check: fn(&[u8]) -> bool,
    /// Makes inputs that are understood, for the fuzzer to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}
