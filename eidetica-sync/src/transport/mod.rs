//! Between the node and its transports: [`manager`] chooses the transport that carries an exchange.
//! [`frame_streams`] turns entries into frames and frames into entries.

pub(crate) mod frame_streams;
pub(crate) mod manager;
