//! Notices keys that are alive on two machines, as [`Duplicates`](eidetica_proto::peers::Duplicates)
//! decides.

use eidetica_dag::PublicKey;
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::message::{Alive, Reply, Request, RequestHeader, ResponseHeader};
use eidetica_proto::peers::Sighting;
use eidetica_proto::proof::Epoch;

use super::shared::{Core, Shared};
use crate::client::error::SyncError;
use crate::transport::frame_streams::OutgoingMessage;

impl Shared {
    /// Asks a peer which start of it is alive, if that is due, and says the same of this node. A
    /// failure is no matter: it is asked again.
    pub(super) async fn ask_alive(&self, peer: PeerId) {
        let began_ms = self.now_ms();
        if !self.look(|core, now_ms| core.duplicates.poll_ask(peer, now_ms)) {
            return;
        }
        let epoch = self.epoch;
        let header = RequestHeader::new(Request::Alive(Alive { epoch })).encode();
        let request = OutgoingMessage::header_only(header);
        let asked = async {
            let header = self.dialer.exchange(peer, &request).await?;
            let header = header.only_frame().await?;
            Ok::<_, SyncError>(ResponseHeader::decode(&header).map(|header| header.reply))
        };
        match asked.await {
            Ok(Ok(Ok(Reply::Alive(Alive { epoch })))) => self.input(|core, now_ms| {
                let seen = Sighting {
                    from_ms: began_ms,
                    to_ms: now_ms,
                };
                self.note_alive(core, peer, epoch, seen);
            }),
            Ok(_) => tracing::debug!(%peer, "the peer does not say which start of it is alive"),
            Err(error) => tracing::debug!(%peer, %error, "cannot ask which start is alive"),
        }
    }

    /// Notes that a key was alive under an epoch, and tells programs if it is alive twice.
    pub(super) fn note_alive(&self, core: &mut Core, key: PublicKey, epoch: Epoch, seen: Sighting) {
        if core.duplicates.handle_seen(key, epoch, seen) {
            tracing::warn!(%key, "a secret key is in use on two machines at once");
            self.news.publisher().duplicate_key(key);
        }
    }

    /// Returns the keys that are alive twice, each with the wall-clock time when that was last
    /// noticed.
    pub(crate) fn duplicate_keys(&self) -> Vec<(PublicKey, u64)> {
        let found = self.look(|core, now_ms| core.duplicates.found(now_ms).collect::<Vec<_>>());
        let found = found.into_iter();
        found
            .map(|(key, at_ms)| (key, self.wall_ms(at_ms)))
            .collect()
    }
}
