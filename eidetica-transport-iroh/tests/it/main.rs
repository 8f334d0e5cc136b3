//! The transport over real QUIC on the loopback interface, and a relay server there.

mod conformance;
mod endpoints;
mod failover;
mod limits;
#[cfg(feature = "mdns")]
mod local;
mod peers;
mod relay;
mod stage;
