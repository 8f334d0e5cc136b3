//! Answering peers: [`service`] authenticates a request and dispatches it, and each kind of answer has
//! a file of its own. What to answer is decided by [`eidetica_proto::answer`] and
//! [`eidetica_proto::joining`]; this room reads, writes and waits for them.

mod checks;
#[cfg(test)]
mod contact_tests;
pub(crate) mod grants;
mod greeting;
#[cfg(feature = "http")]
pub(crate) mod json_api;
mod pace;
pub(crate) mod push;
pub(crate) mod push_limit;
pub(crate) mod refused;
pub(crate) mod request_auth;
pub(crate) mod service;
pub(crate) mod sync_answer;
pub(crate) mod trees;
mod views;
pub(crate) mod watch;
pub(crate) mod work_limit;
