//! How the program reaches others: the transports that it sets up, and the certificates for HTTPS.
//! The rest is the library's.

pub(crate) mod metrics;
pub(crate) mod tls;
pub(crate) mod transports;
