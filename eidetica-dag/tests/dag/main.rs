//! Tests of the crate from outside, in one program so that it links once.

mod access;
mod admission;
mod check;
mod corpus;
mod drawing;
mod encoding;
mod forgery;
mod history;
mod keys;
mod memory;
mod seniority;
mod walk_cost;
mod walks;
