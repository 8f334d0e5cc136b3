//! Between the node and its transports: which of them carries an exchange, how entries become
//! frames, and how frames become stored entries.

pub(crate) mod frame_streams;
pub mod manager;
pub(crate) mod receive;
