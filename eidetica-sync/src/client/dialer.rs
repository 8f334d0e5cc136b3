//! Reaches peers by their keys: the one place that chooses among the addresses of a peer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use eidetica_proto::address_race::{RaceAction, RaceEnd};
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::message::{ADDRESSES_MAX, Reply, ResponseHeader};
use eidetica_proto::peer_book::{AddressOrigin, may_pass_on};
use eidetica_proto::peers::{Place, Reach, reach};
use eidetica_proto::{
    Address, AddressRace, FrameStream, PeerFault, TransportError, TransportErrorKind,
};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::client::book::Book;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::client::peer_client::{Answer, PeerClient, Target};
use crate::transport::frame_streams::OutgoingMessage;
use crate::transport::manager::TransportManager;

/// A request with more entries than this is sent to one address, which a greeting chooses: sending
/// it to several would cost more than asking first.
const RACED_ENTRIES_MAX: u32 = 64;

/// Sends requests to peers, at whichever of their addresses answers first.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) client: Arc<PeerClient>,
    pub(crate) manager: Arc<TransportManager>,
    pub(crate) book: Arc<Book>,
    /// The addresses to use, if not all that the book has.
    only: Option<Arc<[Address]>>,
    announced: Arc<Mutex<Announced>>,
}

/// Which peers know this node's own addresses.
#[derive(Default)]
struct Announced {
    own: Vec<Address>,
    to: BTreeSet<PeerId>,
}

/// A peer that answers.
pub(crate) struct Reached {
    pub(crate) answer: Answer,
    /// Where it answers.
    pub(crate) address: Address,
}

impl Reached {
    /// Reads the first frame of the response.
    ///
    /// # Errors
    /// The connection breaks, or the response is empty.
    pub(crate) async fn header(&mut self) -> Result<Bytes, SyncError> {
        read_header(&mut self.answer.frames, &self.address).await
    }

    /// Reads a response of one frame to its end, so that the connection can be used again.
    ///
    /// # Errors
    /// As [`Reached::header`].
    pub(crate) async fn only_frame(mut self) -> Result<Bytes, SyncError> {
        let header = self.header().await?;
        let _end = self.answer.frames.next().await;
        Ok(header)
    }
}

async fn read_header(frames: &mut FrameStream, address: &Address) -> Result<Bytes, SyncError> {
    match frames.next().await {
        Some(Ok(header)) => Ok(header),
        Some(Err(source)) => Err(SyncError::transport(address, source)),
        None => Err(SyncError::peer(address, PeerFault::Incomplete)),
    }
}

impl Dialer {
    pub(crate) fn new(
        client: Arc<PeerClient>,
        manager: Arc<TransportManager>,
        book: Arc<Book>,
    ) -> Self {
        Self {
            client,
            manager,
            book,
            only: None,
            announced: Arc::default(),
        }
    }

    /// Returns a dialer that uses only these addresses, or all if there are none.
    pub(crate) fn at(&self, addresses: &[Address]) -> Self {
        let only = (!addresses.is_empty()).then(|| addresses.into());
        Self {
            only,
            ..self.clone()
        }
    }

    /// Returns the addresses to try, most promising first: those that a transport understands, unless
    /// there are none.
    fn addresses(&self, peer: &PeerId) -> Vec<Address> {
        let mut addresses = self.book.addresses(peer);
        if let Some(only) = &self.only {
            addresses.retain(|address| only.contains(address));
            for address in only.iter() {
                // The book may have had no room for it.
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
        let is_usable = |address: &&Address| self.manager.can_handle_address(address);
        let usable: Vec<Address> = addresses.iter().filter(is_usable).cloned().collect();
        match usable.is_empty() {
            true => addresses,
            false => usable,
        }
    }

    /// Tells a peer where this node can be reached, once, and learns the same of it. A failure is no
    /// matter: the next check is another opportunity.
    pub(crate) async fn announce(&self, peer: PeerId) {
        let own = self.own_addresses().await;
        if !own.is_empty() && self.is_to_announce(peer, &own) {
            self.tell(peer, own).await;
        }
    }

    /// Tells a peer where this node can be reached, whether it was told or not. Returns whether the
    /// peer answers.
    pub(crate) async fn announce_again(&self, peer: PeerId) -> bool {
        let own = self.own_addresses().await;
        self.is_to_announce(peer, &own);
        self.tell(peer, own).await
    }

    /// Returns where a peer is: on this machine if its best address leads there.
    pub(crate) fn place_of(&self, peer: &PeerId) -> Place {
        match self.book.addresses(peer).first().map(reach) {
            Some(Reach::SameMachine) => Place::SameMachine,
            _ => Place::Elsewhere,
        }
    }

    /// Returns where this node can be reached.
    pub(crate) async fn own_addresses(&self) -> Vec<Address> {
        let own = self.manager.get_all_server_addresses_async().await;
        own.into_iter().map(|(_, address)| address).collect()
    }

    /// Tells a peer these addresses of this node, and learns its own.
    async fn tell(&self, peer: PeerId, own: Vec<Address>) -> bool {
        let place = self.place_of(&peer);
        let mut told = own;
        told.retain(|address| reach(address).includes(place));
        told.truncate(ADDRESSES_MAX);
        let request = OutgoingMessage::header_only(self.client.hello_header(told));
        let answered = async {
            let header = self.exchange(peer, &request).await?.only_frame().await?;
            Ok::<_, SyncError>(ResponseHeader::decode(&header).map(|header| header.reply))
        };
        match answered.await {
            Ok(Ok(Ok(Reply::Hello(hello)))) => {
                let useful = hello.addresses.into_iter();
                let useful = useful.filter(|address| reach(address).includes(place));
                self.book.learn(peer, useful, AddressOrigin::Hello);
            }
            Ok(_) => tracing::debug!(%peer, "the peer does not take this node's addresses"),
            Err(error) => {
                tracing::debug!(%peer, %error, "could not tell this node's addresses");
                lock(&self.announced).to.remove(&peer);
                return false;
            }
        }
        true
    }

    /// Notes that these addresses are sent to the peer. Returns whether they have not been sent yet.
    fn is_to_announce(&self, peer: PeerId, own: &[Address]) -> bool {
        let mut announced = lock(&self.announced);
        if announced.own != own {
            *announced = Announced {
                own: own.to_vec(),
                to: BTreeSet::new(),
            };
        }
        announced.to.insert(peer)
    }

    /// Sends a request to a peer. Returns as soon as the peer answers and has proved its key.
    ///
    /// # Errors
    /// [`SyncError::NoAddress`], or the error of the most telling address.
    pub(crate) async fn exchange(
        &self,
        peer: PeerId,
        request: &OutgoingMessage,
    ) -> Result<Reached, SyncError> {
        self.exchange_at_one_of(peer, self.addresses(&peer), request)
            .await
    }

    /// Returns the addresses for a request with so many entries: one of them, chosen by a greeting, if
    /// it would cost too much to send the request to several.
    ///
    /// # Errors
    /// As [`Dialer::exchange`].
    pub(super) async fn addresses_for(
        &self,
        peer: PeerId,
        entries: u32,
    ) -> Result<Vec<Address>, SyncError> {
        let addresses = self.addresses(&peer);
        if entries <= RACED_ENTRIES_MAX || addresses.len() <= 1 {
            return Ok(addresses);
        }
        let hello = |address| self.greet(Some(peer), address).boxed();
        let (race, result) = race(addresses, hello).await;
        self.book.note_race(peer, &race);
        Ok(vec![result?.0])
    }

    /// Sends a request to a peer at one of these addresses.
    ///
    /// # Errors
    /// As [`Dialer::exchange`].
    pub(super) async fn exchange_at_one_of(
        &self,
        peer: PeerId,
        addresses: Vec<Address>,
        request: &OutgoingMessage,
    ) -> Result<Reached, SyncError> {
        let (race, result) = race(addresses, |address| {
            self.exchange_at(peer, address, request).boxed()
        })
        .await;
        self.book.note_race(peer, &race);
        let (address, answer) = result?;
        Ok(Reached { answer, address })
    }

    async fn exchange_at(
        &self,
        peer: PeerId,
        address: Address,
        request: &OutgoingMessage,
    ) -> Result<Answer, TransportError> {
        let transport = self.manager.transport_for(&address)?.clone();
        let at = Target {
            transport: &*transport,
            address: &address,
            peer: Some(peer),
        };
        self.client.exchange(at, request).await
    }

    async fn greet(
        &self,
        peer: Option<PeerId>,
        address: Address,
    ) -> Result<(PeerId, Vec<Address>), TransportError> {
        let transport = self.manager.transport_for(&address)?.clone();
        let at = Target {
            transport: &*transport,
            address: &address,
            peer,
        };
        self.client.hello(at).await
    }

    /// Returns the key of a peer, and notes its addresses. A peer whose key is not given is greeted,
    /// unless an address names its key or is known to lead to one peer.
    ///
    /// Tells as well whether the addresses are a reason to try the peer again.
    ///
    /// # Errors
    /// No address answers.
    pub(crate) async fn meet(&self, peer: &Peer) -> Result<(PeerId, bool), SyncError> {
        if let Some(key) = peer.key {
            let addresses = peer.addresses.iter().cloned();
            let is_news = self.book.learn(key, addresses, AddressOrigin::Ticket);
            return Ok((key, is_news));
        }
        for address in &peer.addresses {
            let named = self.manager.transport_for(address).ok();
            let named = named.and_then(|transport| transport.key_in(address));
            let key = match named {
                Some(key) => Some(key),
                None => self.client.pinned(address).await,
            };
            if let Some(key) = key {
                let origin = AddressOrigin::Manual;
                return Ok((key, self.book.learn(key, [address.clone()], origin)));
            }
        }
        let hello = |address| self.greet(None, address).boxed();
        let (_, result) = race(peer.addresses.clone(), hello).await;
        let (address, (key, others)) = result?;
        self.book.learn(key, [address], AddressOrigin::Manual);
        let others = others.into_iter().filter(may_pass_on);
        self.book.learn(key, others, AddressOrigin::Hello);
        Ok((key, true))
    }

    /// Forgets which peer was at an address. The next peer that answers there will be trusted.
    pub(crate) async fn forget(&self, address: &Address) -> Result<(), crate::store::StoreError> {
        self.book.forget_address(address);
        self.client.forget(address).await
    }
}

/// Makes attempts at addresses until one succeeds, as an [`AddressRace`] says. Returns the race, and
/// the address that answered first with its answer.
async fn race<'a, T>(
    addresses: Vec<Address>,
    attempt: impl Fn(Address) -> BoxFuture<'a, Result<T, TransportError>>,
) -> (AddressRace, Result<(Address, T), SyncError>) {
    let began = Instant::now();
    let mut race = AddressRace::new(addresses);
    let mut attempts = FuturesUnordered::new();
    let mut failed: Option<(Address, TransportError)> = None;
    loop {
        let now_ms = began.elapsed().as_millis() as u64;
        while let Some(action) = race.poll_action(now_ms) {
            match action {
                RaceAction::Try(number, address) => {
                    let attempt = attempt(address.clone());
                    attempts.push(async move { (number, address, attempt.await) });
                }
                // All are dropped when this returns.
                RaceAction::Cancel(_) => {}
            }
        }
        if let Some(RaceEnd::Lost(_)) = race.end() {
            let error = match failed {
                Some((address, source)) => SyncError::transport(&address, source),
                None => SyncError::NoAddress,
            };
            return (race, Err(error));
        }
        let wake_ms = race.poll_wake();
        let wake = began + Duration::from_millis(wake_ms.unwrap_or(0));
        tokio::select! {
            biased;
            Some((number, address, result)) = attempts.next() => match result {
                Ok(answer) => {
                    race.handle_answered(number);
                    return (race, Ok((address, answer)));
                }
                Err(error) => {
                    match error.kind() {
                        TransportErrorKind::WrongPeer => race.handle_wrong_peer(number),
                        _ => race.handle_failed(number),
                    }
                    let tells_more = |(_, before): &(Address, TransportError)| {
                        telling(before.kind()) < telling(error.kind())
                    };
                    if failed.as_ref().is_none_or(tells_more) {
                        failed = Some((address, error));
                    }
                }
            },
            () = tokio::time::sleep_until(wake), if wake_ms.is_some() => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Orders errors by what they say about the peer: a busy one is there, a wrong one says nothing. What a
/// proxy takes no request of some size for can be sent in smaller ones.
fn telling(kind: TransportErrorKind) -> u8 {
    match kind {
        TransportErrorKind::RequestTooLarge => 5,
        TransportErrorKind::Busy => 4,
        TransportErrorKind::TimedOut | TransportErrorKind::ConnectionLost => 3,
        TransportErrorKind::Refused | TransportErrorKind::Unreachable => 2,
        TransportErrorKind::WrongPeer => 1,
        _ => 0,
    }
}
