//! Asking peers: [`peer_client`] carries one exchange with both sides authenticated, and
//! [`session_driver`] a whole sync. What to say is decided by [`eidetica_proto::session`].

pub(crate) mod addresses;
pub(crate) mod error;
pub(crate) mod peer;
pub(crate) mod peer_client;
pub(crate) mod session_driver;
