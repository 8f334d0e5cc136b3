//! Between the node and its transports: which of them carries an exchange, and how entries become
//! frames.

pub(crate) mod frame_streams;
pub mod manager;
