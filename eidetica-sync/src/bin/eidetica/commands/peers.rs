//! `peers`: lists the known peers and their addresses, and changes them.

use std::collections::BTreeMap;

use eidetica_sync::Node;
use eidetica_sync::dag::PublicKey;
use eidetica_sync::proto::Address;
use eidetica_sync::proto::peer_book::{AddressOrigin, KnownAddress};
use serde_json::{Value, json};

use crate::args::{ChangePeers, Peers};
use crate::commands::access::choose_key;
use crate::commands::session::Session;
use crate::output::failure::{Context, Failure, Result};
use crate::output::text::{one_line, utc};
use crate::store::{peers, trees};

pub(crate) async fn run(session: &Session, args: Peers) -> Result<()> {
    match args.change {
        None => list(session, args.tree, args.json).await,
        Some(ChangePeers::Add { key, addresses }) => add(session, &key, addresses).await,
        Some(ChangePeers::Remove { key, address }) => remove(session, &key, address).await,
    }
}

async fn list(session: &Session, tree: Option<String>, as_json: bool) -> Result<()> {
    let opened = session.open()?;
    let tree = tree.map(|text| trees::find(&*opened.store, &text));
    let tree = tree.transpose()?.map(|named| named.tree);
    let node = opened.start();
    let follows = node.remembered_follows().await;
    let follows = follows.context("could not read which peers are followed")?;
    let mut listed: BTreeMap<PublicKey, Vec<KnownAddress>> = BTreeMap::new();
    for (key, known) in node.known_peers() {
        listed.insert(key, known.addresses().to_vec());
    }
    for follow in &follows {
        listed.entry(follow.peer).or_default();
    }
    let mut out = session.console.out();
    for (key, addresses) in listed {
        let shared = || follows.iter().filter(move |it| it.peer == key);
        if tree.is_some_and(|tree| shared().all(|it| it.tree != tree)) {
            continue;
        }
        if as_json {
            let addresses: Vec<Value> = addresses.iter().map(as_value).collect();
            let trees =
                shared().map(|it| json!({"tree": it.tree.to_string(), "paused": it.is_paused}));
            let trees: Vec<Value> = trees.collect();
            let key = key.to_string();
            out.json(&json!({"peer": key, "addresses": addresses, "trees": trees}))?;
            continue;
        }
        let trees: Vec<String> = shared()
            .map(|it| match it.is_paused {
                true => format!("{} (paused)", it.tree.short()),
                false => it.tree.short(),
            })
            .collect();
        out.line(format_args!("{key}  {}", trees.join(", ")))?;
        for address in &addresses {
            let line = format!("  {}  {}", address.address, described(address));
            out.line(one_line(&line))?;
        }
    }
    out.flush()
}

fn as_value(known: &KnownAddress) -> Value {
    json!({
        "address": known.address,
        "origin": origin(known.origin),
        "last_success_ms": known.last_success_ms,
        "failures": known.failures,
        "wrong_peer": known.wrong_peer,
    })
}

fn origin(origin: AddressOrigin) -> &'static str {
    match origin {
        AddressOrigin::Manual => "added by hand",
        AddressOrigin::Ticket => "from a ticket",
        AddressOrigin::Hello => "told by the peer",
        AddressOrigin::Record => "from a signed record",
        AddressOrigin::Mdns => "found in the local network",
    }
}

fn described(known: &KnownAddress) -> String {
    let origin = origin(known.origin);
    let last = known.last_success_ms.map(utc);
    match (known.wrong_peer, known.failures, last) {
        (true, _, _) => format!("{origin}; another peer answers there"),
        (_, 0, None) => format!("{origin}; not tried yet"),
        (_, 0, Some(last)) => format!("{origin}; answered {last}"),
        (_, n, None) => format!("{origin}; failed {n} times"),
        (_, n, Some(last)) => format!("{origin}; failed {n} times since {last}"),
    }
}

async fn find(node: &Node, text: &str) -> Result<PublicKey> {
    choose_key(peers::keys(node).await?.into_iter(), text)
}

async fn add(session: &Session, key: &str, addresses: Vec<Address>) -> Result<()> {
    let node = session.open_or_create()?.start();
    let key = find(&node, key).await?;
    if key == node.key() {
        return Err(Failure::new("this is the key of this device")
            .hint("`eidetica init` on the other device prints its key")
            .into());
    }
    let added = node.add_addresses(key, addresses).await;
    added.context("could not remember the addresses of the peer")?;
    Ok(())
}

async fn remove(session: &Session, key: &str, address: Option<Address>) -> Result<()> {
    let node = session.open()?.start();
    let key = find(&node, key).await?;
    let failed = "could not forget the peer";
    match address {
        None => node.remove_peer(key).await.context(failed)?,
        Some(address) => {
            let was_known = node.remove_address(key, &address).await.context(failed)?;
            if !was_known {
                let text = format!("{} is not known at {address}", key.short());
                return Err(Failure::new(text)
                    .hint("`eidetica peers` lists the addresses")
                    .into());
            }
        }
    }
    Ok(())
}
