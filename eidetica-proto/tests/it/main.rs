//! The protocol from outside: bytes, whole syncs, and copies that stay equal.

mod filter_negotiation;
mod live;
mod sync;
mod wire;
