//! Between the node and its transports: [`manager`] chooses the transport that carries an exchange.
//! [`frame_streams`] turns entries into frames and frames into entries, which [`receive`] stores.

pub(crate) mod frame_streams;
pub(crate) mod manager;
pub(crate) mod packing;
pub(crate) mod receive;
