//! Strangers ask to join: an honest joiner's request must still be recorded, and soon.

use std::sync::Arc;
use std::time::Duration;

use eidetica_sync::JoinOptions;
use eidetica_sync::proto::Ticket;
use eidetica_sync::store::MemoryStore;
use tokio::time::Instant;
use xtask_support::failed;
use xtask_support::report::Target as Wanted;

use super::Server;
use crate::nodes::{Transport, start};

/// As many as a tree keeps requests, and some.
const STRANGERS: u32 = 160;

/// How long an honest request may take, retries included.
const RECORDED_MAX: Duration = Duration::from_secs(2);

pub(super) async fn measure(server: &mut Server, transport: Transport) -> Result<Wanted, String> {
    let target = &server.target;
    let ticket = Ticket {
        addresses: vec![target.address.clone()],
        ..Ticket::new(target.private)
    };
    let began = Instant::now();
    for number in 0..STRANGERS {
        let name = format!("stranger {number}");
        let node = start(&name, Arc::new(MemoryStore::new()), transport).await?;
        // Whether it is refused or recorded makes no difference here.
        let _asked = node.join(&ticket, JoinOptions::default()).await;
        node.shutdown().await.map_err(failed)?;
    }
    let flood = began.elapsed();
    let node = start("honest joiner", Arc::new(MemoryStore::new()), transport).await?;
    let began = Instant::now();
    let joined = node.join(&ticket, JoinOptions::default()).await;
    let took = began.elapsed();
    let key = node.key().to_string();
    node.shutdown().await.map_err(failed)?;
    let requests = server
        .side
        .order(&format!("requests {}", server.target.private))?;
    let is_recorded = requests
        .as_array()
        .is_some_and(|keys| keys.iter().any(|other| other.as_str() == Some(&key)));
    // All come from one address here, so the flood may have what one address gets; others have room.
    let is_told = matches!(&joined, Err(error) if error.to_string().contains("retry later"));
    let mut wanted = Wanted::new(
        "after a flood of strangers a request to join is recorded, or told to come again, at once",
    );
    wanted.check((is_recorded || is_told) && took <= RECORDED_MAX, || {
        format!("{}: {joined:?} after {took:?}", transport.name())
    });
    eprintln!("  {STRANGERS} strangers in {flood:.1?}; the honest request took {took:.1?}");
    Ok(wanted)
}
