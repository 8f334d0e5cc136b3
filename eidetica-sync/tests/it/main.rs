//! Nodes that sync with each other, over a network in memory and over real transports;
//! and the program, in processes of its own.

#[cfg(feature = "cli")]
mod cli;
mod common;
mod hostile;
#[cfg(all(feature = "http", feature = "postgres"))]
mod hub;
mod identity;
mod joining;
mod live;
mod live_server;
mod node;
#[cfg(feature = "http")]
mod own_io;
mod removals;
mod restored;
#[cfg(any(feature = "http", feature = "iroh"))]
mod scenarios;
#[cfg(any(feature = "http", feature = "iroh"))]
mod transports;
mod who_may_what;
