//! A reader that takes nothing while others write: the store's file must not grow for its sake.

use std::fs;
use std::rc::Rc;

use tokio::time::{Duration, sleep};
use xtask_support::failed;
use xtask_support::process::Supervisor;
use xtask_support::report::Target as Wanted;

use super::{Attack, Server, http, iroh};
use crate::nodes::Transport;

/// Entries that are written one by one, with and without the reader.
const APPENDS: usize = 2_000;

/// Streams that read nothing; one would do.
const READERS: usize = 16;

/// What they have room for: a part of a batch.
const WINDOW: u32 = 70_000;

/// How much more the file may grow.
const GROWTH_MAX: f64 = 1.5;

/// Growth below this is not compared: a file grows in steps.
const STEP_BYTES: u64 = 4 << 20;

pub(super) async fn measure(
    server: &mut Server,
    transport: Transport,
    supervisor: &Rc<Supervisor>,
) -> Result<Wanted, String> {
    let name = format!("siege-{}-{:?}.redb", transport.name(), Attack::Pinned);
    let file = supervisor.folder().join(name);
    let size = || fs::metadata(&file).map(|it| it.len()).map_err(failed);
    let append = format!("append {} {APPENDS}", server.trees[0]);
    let start = size()?;
    server.side.order(&append)?;
    let quiet = size()? - start;
    let target = server.target.clone();
    let readers = tokio::spawn(async move {
        match transport {
            Transport::Http => http::unread(target, READERS, vec![WINDOW]).await,
            Transport::Iroh => iroh::unread(target, READERS, vec![WINDOW]).await,
        }
    });
    sleep(Duration::from_secs(1)).await;
    let start = size()?;
    server.side.order(&append)?;
    let pinned = size()? - start;
    readers.abort();
    let mut wanted =
        Wanted::new("readers that take nothing let the file grow at most 1.5 × as fast");
    let is_met = pinned as f64 <= GROWTH_MAX * quiet.max(STEP_BYTES) as f64;
    wanted.check(is_met, || {
        format!("{}: {quiet} to {pinned} bytes", transport.name())
    });
    eprintln!(
        "  the file grows by {quiet} bytes alone, by {pinned} beside readers that take nothing"
    );
    Ok(wanted)
}
