//! Bytes on the wire: messages and batches.

mod batches;
mod golden;
mod messages;
mod proofs;
