//! A network in memory, with the behaviour and the errors of a real one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use eidetica_dag::PublicKey;
use futures::FutureExt;
use futures::future;
use futures::stream::{self, StreamExt};

use super::fault::{ExchangeInfo, Fault};
use super::pipe::{Link, Registry, RequestEnd, ResponseEnd, Timer, Wait, closed, lock};
use crate::address::Address;
use crate::frame::FrameDecoder;
use crate::transport::{
    Caller, FrameStream, Response, Service, SyncTransport, TransportError, TransportErrorKind,
};

/// The kind of address of a [`MemoryTransport`].
const KIND: &str = "memory";

type Hook = Arc<dyn Fn(&ExchangeInfo) -> Option<Fault> + Send + Sync>;

/// Connects [`MemoryTransport`]s of one process. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    shared: Arc<NetworkShared>,
}

#[derive(Default)]
struct NetworkShared {
    listeners: Mutex<BTreeMap<String, Listener>>,
    hook: Mutex<Option<Hook>>,
    exchanges: AtomicU64,
}

#[derive(Clone)]
struct Listener {
    service: Arc<dyn Service>,
    key: Option<PublicKey>,
    exchanges: Arc<Registry>,
}

impl MemoryNetwork {
    /// Makes a network without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to build a transport whose address is `memory:<name>`.
    pub fn transport(&self, name: &str) -> MemoryTransportBuilder {
        MemoryTransportBuilder {
            network: self.clone(),
            name: name.to_owned(),
            key: None,
            timer: None,
        }
    }

    /// Calls `hook` before each exchange to choose a fault for it. It replaces the hook set before.
    pub fn inject<H>(&self, hook: H)
    where
        H: Fn(&ExchangeInfo) -> Option<Fault> + Send + Sync + 'static,
    {
        *lock(&self.shared.hook) = Some(Arc::new(hook));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        *lock(&self.shared.hook) = None;
    }

    /// Returns how many exchanges were begun, including those that failed.
    pub fn exchanges(&self) -> u64 {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    fn fault(&self, info: &ExchangeInfo) -> Option<Fault> {
        let hook = lock(&self.shared.hook).clone();
        hook.and_then(|hook| hook(info))
    }
}

/// Builds a [`MemoryTransport`].
pub struct MemoryTransportBuilder {
    network: MemoryNetwork,
    name: String,
    key: Option<PublicKey>,
    timer: Option<Timer>,
}

impl MemoryTransportBuilder {
    /// Proves this key to the other side of each exchange, as iroh does. Without it, no key is
    /// proved.
    #[must_use]
    pub fn key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets deadlines. Without a timer no answer is ever too late, and a server that stops cuts
    /// the exchanges in progress at once.
    #[must_use]
    pub fn timer<T, F>(mut self, timer: T) -> Self
    where
        T: Fn(Wait) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.timer = Some(Arc::new(move |wait| Box::pin(timer(wait))));
        self
    }

    /// Makes the transport.
    pub fn build(self) -> MemoryTransport {
        MemoryTransport {
            network: self.network,
            name: self.name,
            key: self.key,
            timer: self.timer,
            outgoing: Arc::default(),
            running: Mutex::new(None),
            closed: AtomicBool::new(false),
        }
    }
}

/// A transport whose network is a [`MemoryNetwork`].
///
/// Nothing runs by itself: the service works while the caller polls the exchange and its answer. So
/// a test is deterministic if its executor is.
pub struct MemoryTransport {
    network: MemoryNetwork,
    name: String,
    key: Option<PublicKey>,
    timer: Option<Timer>,
    outgoing: Arc<Registry>,
    /// The exchanges of the server that runs.
    running: Mutex<Option<Arc<Registry>>>,
    closed: AtomicBool,
}

impl MemoryTransport {
    fn check_open(&self) -> Result<(), TransportError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(closed()),
            false => Ok(()),
        }
    }

    fn address(&self) -> Result<Address, TransportError> {
        parse_name(&self.name)?;
        Address::new(KIND, &self.name).map_err(|error| unusable(error.to_string()))
    }

    fn listener(&self, address: &Address) -> Result<Listener, TransportError> {
        if address.kind() != KIND {
            return Err(unusable(format!("{address} is not an address in memory")));
        }
        parse_name(address.value())?;
        let listeners = lock(&self.network.shared.listeners);
        listeners
            .get(address.value())
            .cloned()
            .ok_or_else(|| refused(address))
    }
}

fn parse_name(name: &str) -> Result<(), TransportError> {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !name.is_empty() && name.chars().all(ok) {
        true => Ok(()),
        false => Err(unusable(format!(
            "a name in memory consists of letters, digits, '-' and '_', but this is {name:?}"
        ))),
    }
}

fn unusable(text: String) -> TransportError {
    TransportError::new(TransportErrorKind::UnusableAddress, text)
}

fn refused(address: &Address) -> TransportError {
    TransportError::new(
        TransportErrorKind::Refused,
        format!("no server listens at {address}"),
    )
}

#[async_trait]
impl SyncTransport for MemoryTransport {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn proves_keys(&self) -> bool {
        self.key.is_some()
    }

    async fn start_server(&self, service: Arc<dyn Service>) -> Result<(), TransportError> {
        self.check_open()?;
        let address = self.address()?;
        let mut running = lock(&self.running);
        if running.is_some() {
            return Err(TransportError::new(
                TransportErrorKind::AlreadyRunning,
                format!("the server at {address} is already running"),
            ));
        }
        let mut listeners = lock(&self.network.shared.listeners);
        if listeners.contains_key(&self.name) {
            return Err(TransportError::new(
                TransportErrorKind::AddressInUse,
                format!("another transport listens at {address}"),
            ));
        }
        let exchanges = Arc::<Registry>::default();
        *running = Some(Arc::clone(&exchanges));
        let listener = Listener {
            service,
            key: self.key,
            exchanges,
        };
        listeners.insert(self.name.clone(), listener);
        Ok(())
    }

    async fn stop_server(&self) -> Result<(), TransportError> {
        let exchanges = {
            let mut running = lock(&self.running);
            let Some(exchanges) = running.take() else {
                return Ok(());
            };
            lock(&self.network.shared.listeners).remove(&self.name);
            exchanges
        };
        exchanges.cut_quiet();
        if let Some(timer) = &self.timer {
            future::select(Box::pin(exchanges.idle()), timer(Wait::Grace)).await;
        }
        exchanges.cut(TransportErrorKind::ConnectionLost);
        Ok(())
    }

    fn is_server_running(&self) -> bool {
        lock(&self.running).is_some()
    }

    async fn server_addresses(&self) -> Vec<Address> {
        match self.is_server_running() {
            true => self.address().into_iter().collect(),
            false => Vec::new(),
        }
    }

    async fn exchange(
        &self,
        address: &Address,
        request: FrameStream,
    ) -> Result<Response, TransportError> {
        self.check_open()?;
        let number = (self.network.shared.exchanges).fetch_add(1, Ordering::Relaxed);
        let info = ExchangeInfo {
            number,
            from: self.name.clone(),
            to: address.clone(),
        };
        let listener = self.listener(address)?;
        let fault = self.network.fault(&info);
        match fault {
            Some(Fault::Refuse) => return Err(refused(address)),
            Some(Fault::Busy) => {
                let text = format!("{address} has no room; retry later");
                return Err(TransportError::new(TransportErrorKind::Busy, text));
            }
            _ => {}
        }

        let link = Arc::<Link>::default();
        let registries = [Arc::clone(&self.outgoing), Arc::clone(&listener.exchanges)];
        for registry in &registries {
            registry.add(number, Arc::clone(&link));
        }
        let mut frames = ResponseEnd {
            number,
            link: Arc::clone(&link),
            registries,
            decoder: FrameDecoder::new(),
            timer: self.timer.clone(),
            waiting: None,
            request_frames_seen: 0,
            cut_after_frames: None,
            stall_after_frames: None,
            begun: false,
            ended: false,
        };
        let mut request = RequestEnd {
            link: Arc::clone(&link),
            request: Some(request),
            decoder: FrameDecoder::new(),
            cut_after_frames: None,
        };
        match fault {
            Some(Fault::CutRequest { after_frames }) => {
                request.cut_after_frames = Some(after_frames);
            }
            Some(Fault::CutResponse { after_frames }) => {
                frames.cut_after_frames = Some(after_frames);
            }
            Some(Fault::StallResponse { after_frames }) => {
                frames.stall_after_frames = Some(after_frames);
            }
            _ => {}
        }
        if fault != Some(Fault::Stall) {
            let caller = Caller {
                transport: KIND,
                key: self.key,
                remote: self.name.clone(),
            };
            let service = listener.service;
            let answer = async move { service.exchange(caller, request.boxed()).await };
            link.begin(answer.flatten_stream().boxed());
        }
        // The answer begins with its first frame or its end.
        let first = frames.next().await.transpose()?;
        Ok(Response {
            peer: listener.key,
            frames: stream::iter(first.map(Ok)).chain(frames).boxed(),
        })
    }

    async fn close(&self) -> Result<(), TransportError> {
        self.closed.store(true, Ordering::Release);
        self.outgoing.cut(TransportErrorKind::Closed);
        self.stop_server().await
    }
}
