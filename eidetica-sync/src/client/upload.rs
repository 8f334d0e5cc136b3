//! Sends entries to a peer, in as many requests as an address needs.
//!
//! Where a proxy limits the size of requests, [`BodyLimit`] says how much fits into one. Each request is
//! complete in itself: what an acknowledged one brought is durable, whatever happens to the next.

use eidetica_proto::body_limit::{BODY_BYTES_MIN, BodyLimit, BodyVerdict};
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::message::{Reply, Request, RequestHeader, ResponseHeader, SendEntries};
use eidetica_proto::{Address, EntrySelection, TransportErrorKind};
use futures::{StreamExt, stream};

use crate::client::dialer::{Dialer, Reached};
use crate::client::error::SyncError;
use crate::platform::blocking;
use crate::store::StoreError;
use crate::transport::frame_streams::{EntrySource, OutgoingMessage};

/// The answer to the last request of an upload.
pub(crate) struct Uploaded {
    pub(crate) reached: Reached,
    /// How many entries the peer stored of the requests before, and how much these carried: entries and
    /// bytes.
    pub(crate) stored_before: u32,
    pub(crate) sent_before: (u64, u64),
}

impl Dialer {
    /// Sends the entries of one tree to a peer. If a request before the last is answered with anything
    /// other than that all its entries are stored, it is the last.
    ///
    /// # Errors
    /// As [`Dialer::exchange`].
    pub(crate) async fn upload(
        &self,
        peer: PeerId,
        entries: EntrySelection,
        from: EntrySource,
    ) -> Result<Uploaded, SyncError> {
        let mut addresses = self.addresses_for(peer, entries.entry_count()).await?;
        let (mut limit, mut known_of) = (BodyLimit::default(), None);
        let (mut left, mut stored_before, mut sent_before) = (entries, 0, (0, 0));
        loop {
            if let [address] = &addresses[..]
                && known_of.as_ref() != Some(address)
            {
                limit = self.client.body_limit(address).await;
                known_of = Some(address.clone());
            }
            let (piece, rest) = split(&left, &from, limit.bytes_max()).await?;
            let request = request(piece.clone(), from.clone());
            let answered = self
                .exchange_at_one_of(peer, addresses.clone(), &request)
                .await;
            let mut reached = match answered {
                Ok(reached) => reached,
                Err(SyncError::Transport { address, source }) => {
                    if known_of.as_ref() != Some(&address) {
                        limit = self.client.body_limit(&address).await;
                        known_of = Some(address.clone());
                    }
                    let kind = source.kind();
                    match self
                        .judge(&mut limit, &address, kind, &piece, &from)
                        .await?
                    {
                        BodyVerdict::GiveUp => return Err(SyncError::transport(&address, source)),
                        BodyVerdict::SendAgain | BodyVerdict::Split => addresses = vec![address],
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            limit.handle_taken();
            let Some(rest) = rest else {
                return Ok(Uploaded {
                    reached,
                    stored_before,
                    sent_before,
                });
            };
            let header = reached.header().await?;
            let (entries, bytes) = reached.answer.sent.read();
            let reply = ResponseHeader::decode(&header).map(|header| header.reply);
            match reply {
                Ok(Ok(Reply::Stored(stored))) if stored.missing.is_empty() => {
                    let _end = reached.answer.frames.next().await;
                    stored_before += stored.stored;
                    sent_before = (sent_before.0 + entries, sent_before.1 + bytes);
                    (left, addresses) = (rest, vec![reached.address]);
                }
                _ => {
                    let frames = stream::iter([Ok(header)]).chain(reached.answer.frames);
                    reached.answer.frames = Box::pin(frames);
                    return Ok(Uploaded {
                        reached,
                        stored_before,
                        sent_before,
                    });
                }
            }
        }
    }

    /// Decides what to do about a request that did not get through, and remembers a new limit.
    async fn judge(
        &self,
        limit: &mut BodyLimit,
        address: &Address,
        kind: TransportErrorKind,
        piece: &EntrySelection,
        source: &EntrySource,
    ) -> Result<BodyVerdict, StoreError> {
        let is_cut = kind == TransportErrorKind::ConnectionLost;
        if !is_cut && kind != TransportErrorKind::RequestTooLarge {
            return Ok(BodyVerdict::GiveUp);
        }
        // No limit is as low as that, and one entry cannot be split.
        let (_, rest) = split(piece, source, Some(BODY_BYTES_MIN)).await?;
        if rest.is_none() {
            return Ok(BodyVerdict::GiveUp);
        }
        let mut verdict = match is_cut {
            true => limit.handle_cut(),
            false => limit.handle_too_large(),
        };
        // A limit that leaves the request as it is would be of no use.
        while verdict == BodyVerdict::Split {
            let (_, rest) = split(piece, source, limit.bytes_max()).await?;
            if rest.is_some() {
                self.client.remember_body_limit(address, *limit).await;
                break;
            }
            verdict = limit.handle_too_large();
        }
        Ok(verdict)
    }
}

fn request(entries: EntrySelection, source: EntrySource) -> OutgoingMessage {
    let send = SendEntries {
        tree: source.tree,
        entries: entries.entry_count(),
    };
    OutgoingMessage {
        header: RequestHeader::new(Request::SendEntries(send)).encode(),
        entries: Some((entries, source)),
    }
}

/// Splits off what one request may carry.
async fn split(
    entries: &EntrySelection,
    source: &EntrySource,
    bytes_max: Option<u32>,
) -> Result<(EntrySelection, Option<EntrySelection>), StoreError> {
    let Some(bytes_max) = bytes_max else {
        return Ok((entries.clone(), None));
    };
    let (entries, source) = (entries.clone(), source.clone());
    blocking::run(move || entries.split(&*source.snapshot()?, bytes_max)).await
}
