//! Asking peers: [`dialer`] reaches a peer at one of its addresses, which [`book`] keeps;
//! [`peer_client`] carries one exchange with both sides authenticated, [`session_driver`] a whole
//! sync and [`watch_driver`] a watch; [`upload`] sends entries in requests that
//! fit through proxies, and [`grant`] shows a peer the role that it has lost. What to say is decided by [`eidetica_proto::session`].

pub(crate) mod book;
pub(crate) mod dialer;
pub(crate) mod error;
pub(crate) mod grant;
pub(crate) mod peer;
pub(crate) mod peer_client;
pub(crate) mod session_driver;
pub(crate) mod upload;
pub(crate) mod watch_driver;
