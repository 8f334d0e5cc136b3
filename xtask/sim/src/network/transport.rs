//! The transport of one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use eidetica_dag::PublicKey;
use eidetica_proto::transport::Service;
use eidetica_proto::{
    Address, Caller, FrameStream, Response, SyncTransport, TransportError, TransportErrorKind,
};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::replay::{REPLAYED_FRAMES_MAX, replay};
use super::state::{Fate, Listener, Network};
use super::ways::{Answer, Arriving, RequestWay, Way};
use super::witness::Witness;

/// The kind of a simulated address.
const KIND: &str = "sim";

/// How long a connection is tried.
const CONNECT: Duration = Duration::from_secs(5);

/// How many frames of an answer are under way at a time.
const UNDER_WAY_MAX: usize = 4;

/// The transport of one life of a node.
pub struct SimTransport {
    network: Network,
    host: usize,
    name: String,
    key: Option<PublicKey>,
    is_closed: Arc<AtomicBool>,
}

impl SimTransport {
    /// Makes the transport of a node, with the name of its address. It proves `key`, if there is one.
    pub fn new(network: &Network, host: usize, name: &str, key: Option<PublicKey>) -> Self {
        Self {
            network: network.clone(),
            host,
            name: name.to_owned(),
            key,
            is_closed: Arc::default(),
        }
    }

    /// Returns what closes it at once, as a power cut does.
    pub fn closer(&self) -> Arc<AtomicBool> {
        self.is_closed.clone()
    }

    /// Returns the address of a name.
    pub fn address(name: &str) -> Address {
        Address::new(KIND, name).expect("a name of letters and digits")
    }

    fn check_open(&self) -> Result<(), TransportError> {
        match self.is_closed.load(Ordering::Relaxed) {
            true => Err(error(TransportErrorKind::Closed, "the transport is closed")),
            false => Ok(()),
        }
    }

    /// Connects to who listens at an address.
    async fn connect(&self, address: &Address, fate: &Fate) -> Result<Listener, TransportError> {
        let to = self.network.listener(address.value()).map(|it| it.host);
        sleep(fate.delay).await;
        if let Some(to) = to {
            let deadline = Instant::now() + CONNECT;
            let opens = self.network.open(self.host, to, deadline).await
                && self.network.open(to, self.host, deadline).await;
            if !opens {
                return Err(error(TransportErrorKind::Unreachable, "no way there"));
            }
        }
        self.check_open()?;
        let listener = self.network.listener(address.value());
        listener.ok_or_else(|| error(TransportErrorKind::Refused, "no server listens there"))
    }
}

fn error(kind: TransportErrorKind, text: &str) -> TransportError {
    TransportError::new(kind, text)
}

#[async_trait]
impl SyncTransport for SimTransport {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn proves_keys(&self) -> bool {
        self.key.is_some()
    }

    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        self.check_open()?;
        let listener = Listener {
            host: self.host,
            key: self.key,
            service,
        };
        let mut state = self.network.lock();
        state.listeners.insert(self.name.clone(), listener);
        Ok(())
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        let mut state = self.network.lock();
        let is_own = |listener: &Listener| listener.host == self.host;
        if state.listeners.get(&self.name).is_some_and(is_own) {
            state.listeners.remove(&self.name);
        }
        drop(state);
        self.network.cut_answers_of(self.host);
        Ok(())
    }

    fn is_server_running(&self) -> bool {
        self.network.listener(&self.name).is_some()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        match self.is_server_running() {
            true => vec![Self::address(&self.name)],
            false => vec![],
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        self.check_open()?;
        let to = self.network.listener(address.value()).map(|it| it.host);
        let fate = self.network.fate(self.host, to.unwrap_or(self.host));
        let listener = self.connect(address, &fate).await?;
        let (network, from, to) = (self.network.clone(), self.host, listener.host);
        let way = |from, to, is_answer, cut_after| Way {
            network: network.clone(),
            from,
            to,
            is_answer,
            cut_after,
        };
        let witness = Witness::new(&network, from, to, self.key.is_some());
        let witness = Arc::new(witness);
        let request_frames = Arc::<AtomicU64>::default();
        let was_served = Arc::<AtomicBool>::default();
        let (kept, replayed) = mpsc::channel(REPLAYED_FRAMES_MAX);
        let caller = Caller {
            transport: KIND,
            key: self.key,
            remote: format!("10.{from}.0.1:7000"),
        };
        let request = RequestWay {
            way: way(from, to, false, fate.cut_request_after),
            frames: Some(request),
            arrived: Default::default(),
            is_last: false,
            counted: request_frames.clone(),
            witness: witness.clone(),
            kept: fate.is_replayed.then_some(kept),
        };
        let request = stream::unfold(request, |mut request| async move {
            let next = request.next().await?;
            Some((next, request))
        });
        let (sender, frames) = mpsc::channel(UNDER_WAY_MAX);
        let answer = Answer {
            way: way(to, from, true, fate.cut_answer_after),
            witness,
            was_served: was_served.clone(),
            sender,
        };
        let service = listener.service.clone();
        let asks = caller.clone();
        let task = tokio::spawn(async move {
            if fate.is_hung {
                return std::future::pending().await;
            }
            answer
                .carry(service.exchange(asks, request.boxed()).await)
                .await;
        });
        if fate.is_replayed {
            let (network, listener) = (network.clone(), listener.clone());
            tokio::spawn(replay(
                network,
                listener,
                caller,
                replayed,
                was_served.clone(),
            ));
        }
        let number = self.network.begin(from, to, task.abort_handle());
        let mut arriving = Arriving {
            network: self.network.clone(),
            number,
            frames,
            task,
            request_frames,
            has_ended: false,
        };
        let first = arriving.next().await.transpose()?;
        let rest = stream::unfold(arriving, |mut arriving| async move {
            let next = arriving.next().await?;
            Some((next, arriving))
        });
        Ok(Response {
            peer: listener.key,
            frames: stream::iter(first.map(Ok)).chain(rest).boxed(),
        })
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.is_closed.store(true, Ordering::Relaxed);
        self.stop_server().await
    }
}
