//! What a command tells the person or the process that started it. Data goes to stdout; notes,
//! progress and failures go to stderr, or to the [`remote`] process that handed the command over.

pub(crate) mod console;
pub(crate) mod failure;
pub(crate) mod out;
pub(crate) mod progress;
pub(crate) mod remote;
pub(crate) mod text;
