//! The transports that the program sets up.

use std::net::{Ipv4Addr, SocketAddr};

use eidetica_sync::NodeBuilder;
use eidetica_sync::dag::SecretKey;
use eidetica_sync::http::{HttpTransport, HttpTransportBuilder};
use eidetica_sync::iroh::{IrohTransport, Relays};
use eidetica_sync::proto::Address;

use crate::args::{Net, Via};
use crate::commands::session::Session;
use crate::output::failure::{Context, Hint, Result};
use crate::store::dir::Opened;

/// Adds HTTP.
pub(crate) fn with_http(node: NodeBuilder, http: HttpTransportBuilder) -> Result<NodeBuilder> {
    let node = node.transport("http", http.build());
    Ok(node.context("could not set up HTTP")?)
}

/// Adds iroh. The endpoint uses the device's key, so every connection proves it.
pub(crate) async fn with_iroh(
    node: NodeBuilder,
    key: &SecretKey,
    loopback: bool,
) -> Result<NodeBuilder> {
    let mut iroh = IrohTransport::builder().secret_key(key.clone());
    if loopback {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        iroh = iroh
            .relays(Relays::Disabled)
            .address_lookup(false)
            .bind_addr(any_port);
    } else {
        iroh = iroh.local_discovery(true);
    }
    let failed = "could not set up iroh";
    let iroh = iroh
        .bind()
        .await
        .context(failed)
        .hint("use HTTP alone: `serve --no-iroh`, or `--via http` with `join` and `sync`")?;
    Ok(node.transport("iroh", iroh).context(failed)?)
}

/// Returns a node with the transports that these addresses need, for a command of its own.
pub(crate) async fn connect(
    session: &Session,
    opened: &Opened,
    mut addresses: impl Iterator<Item = &Address>,
    net: &Net,
) -> Result<NodeBuilder> {
    let http = net.tls.apply(session, HttpTransport::builder())?;
    let node = with_http(opened.node(), http)?;
    let is_iroh = |address: &Address| Via::Iroh.kinds().contains(&address.kind());
    // A device's key has one endpoint, and while a server runs, that is the server's.
    match opened.server.is_none() && addresses.any(is_iroh) {
        true => with_iroh(node, &opened.key, net.loopback).await,
        false => Ok(node),
    }
}
