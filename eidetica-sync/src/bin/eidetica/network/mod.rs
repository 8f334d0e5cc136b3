//! How the program reaches others: the transports that it sets up, and the certificates for HTTPS.
//! Everything behind them is the library's.

pub(crate) mod tls;
pub(crate) mod transports;
