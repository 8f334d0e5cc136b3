//! Asking peers: one exchange ([`peer_client`]), and a whole sync ([`session_driver`]).

pub(crate) mod peer_client;
pub(crate) mod session_driver;
