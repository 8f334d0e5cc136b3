//! The store's folder and what the program keeps in it: the device's key, the database, and notes
//! about peers, imports and pending requests. Trees are found here by id or by name.

pub(crate) mod asked;
pub(crate) mod dir;
pub(crate) mod imported;
pub(crate) mod peers;
pub(crate) mod postgres;
pub(crate) mod trees;
