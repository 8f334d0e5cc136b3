//! Following a peer's arrival logs: what arrives there is sent here at once.
//!
//! The watcher names trees, each with a cursor of the server: everything before it the watcher
//! has. Whatever arrives after the cursor is new, parents first, so it is sent as
//! entries without a question. The server keeps one number for each tree and reads from its store
//! when the connection has room for a frame: a slow watcher gets larger batches later, never a queue
//! in memory.
//!
//! ```text
//! watcher -> server    Watch (tree, cursor)…
//! server -> watcher    Watching
//!                        Entries (tree, cursor after them, batch) | CompareFirst | Gone | Heartbeat …
//! ```
//!
//! A watcher that knows nothing of a tree names it with [`Cursor::NONE`](crate::Cursor::NONE).
//! While the tree is absent or may not be read, the server says nothing of it; once the watcher may
//! read it, the server says `CompareFirst`, once.
//!
//! Nothing is remembered of a watch that ended. The watcher begins another one with the cursors that
//! it reached: those before which everything is durable.

mod client;
mod server;

pub use client::{ReceivedNews, WatchClient, WatchEvent};
pub use server::{WatchServer, WatchStep};

/// How long a server is silent at most before it sends a heartbeat, in milliseconds: half of what
/// the strictest proxies in the field allow.
pub const HEARTBEAT_MS: u64 = 15_000;

/// How long a watcher waits for any frame, in milliseconds: two and a half heartbeats, so that one
/// may be lost to a slow network.
pub const SILENCE_MAX_MS: u64 = HEARTBEAT_MS * 5 / 2;

/// How many entries a cursor may be behind when a watch begins. A watcher that far behind probably
/// has some of them from other peers, which a comparison finds out and a cursor does not tell.
pub const WATCH_BEHIND_MAX: u32 = 16_384;

/// How many trees a server looks at in one step: some 10 ms of a durable store.
pub const TREES_PER_STEP_MAX: usize = 256;
