//! The transport over real QUIC on the loopback interface, without relays and without lookup.

mod conformance;
mod endpoints;
mod failover;
mod limits;
mod peers;
mod stage;
