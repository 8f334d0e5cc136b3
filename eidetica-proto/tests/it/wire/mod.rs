//! Bytes on the wire: messages and batches.

mod batches;
mod corpus;
mod golden;
mod messages;
mod proofs;
