//! The answering side: who gets in, and how it ends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use eidetica_proto::quota::Quota;
use eidetica_proto::{Address, Service, TransportError, TransportErrorKind};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::address::Scheme;
use crate::builder::{Deadlines, HttpTransportBuilder};
use crate::connection::{Connection, Shared};
use crate::limits::{ACCEPT_BACKLOG, ACCEPT_BACKOFF};
use crate::tasks::Tasks;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

/// A server that runs. Dropping it cuts everything.
pub(crate) struct Server {
    scheme: Scheme,
    address: SocketAddr,
    tasks: Arc<Tasks>,
    accepting: JoinHandle<()>,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Starts to listen at `bind`.
    pub(crate) fn start(
        bind: SocketAddr,
        service: Arc<dyn Service>,
        settings: &HttpTransportBuilder,
    ) -> Result<Self, TransportError> {
        let listener = listen(bind).map_err(|error| listen_error(bind, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| listen_error(bind, error))?;
        let tasks = Tasks::new();
        let stopping = watch::Sender::new(false);
        let door = Door {
            listener,
            shared: Shared {
                newcomers: Quota::new(settings.newcomers_max),
                answered: Arc::new(Semaphore::new(settings.connections_max)),
                memory: Quota::new(settings.unfinished_bytes_max),
            },
            service,
            deadlines: settings.deadlines,
            #[cfg(feature = "tls")]
            tls: settings.server_tls.clone(),
            tasks: Arc::downgrade(&tasks),
            stopping: stopping.subscribe(),
        };
        Ok(Self {
            scheme: settings.server_scheme(),
            address,
            tasks,
            accepting: tokio::spawn(door.accept()),
            stopping,
        })
    }

    /// Returns where the server listens, as others see it.
    pub(crate) fn address(&self) -> Option<Address> {
        let ip = reachable_ip(self.address.ip());
        let value = SocketAddr::new(ip, self.address.port()).to_string();
        Address::new(self.scheme.as_str(), &value).ok()
    }

    /// Lists the addresses that others are told.
    pub(crate) fn addresses(&self, settings: &HttpTransportBuilder) -> Vec<Address> {
        let port = self.address.port();
        let mut addresses = settings.advertised.clone();
        addresses.extend(settings.hosts.iter().filter_map(|host| {
            let value = match host.parse::<Ipv6Addr>() {
                Ok(ip) => SocketAddr::new(ip.into(), port).to_string(),
                Err(_) => format!("{host}:{port}"),
            };
            let address = Address::new(self.scheme.as_str(), &value);
            if let Err(error) = &address {
                tracing::warn!(host, %error, "a host cannot stand in an address");
            }
            address.ok()
        }));
        if addresses.is_empty() {
            addresses.extend(self.address());
        }
        addresses
    }

    /// Ends the server. Nothing of it is left when this returns.
    pub(crate) async fn stop(mut self, deadlines: Deadlines) {
        self.accepting.abort();
        // It was cancelled, or had ended: either way the port is free.
        let _ = (&mut self.accepting).await;
        self.stopping.send_replace(true);
        if timeout(deadlines.stop_grace, self.tasks.idle())
            .await
            .is_err()
        {
            tracing::debug!("exchanges outlasted the grace of the stop and are cut");
        }
        self.tasks.shut_down().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let socket = match bind {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Windows this option would let two servers share the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(bind)?;
    socket.listen(ACCEPT_BACKLOG)
}

fn listen_error(bind: SocketAddr, error: io::Error) -> TransportError {
    let (kind, text) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            TransportErrorKind::AddressInUse,
            format!(
                "port {} of {} is taken: choose another, or stop who has it",
                bind.port(),
                bind.ip()
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            TransportErrorKind::UnusableAddress,
            format!("{} is not an address of this machine", bind.ip()),
        ),
        io::ErrorKind::PermissionDenied => (
            TransportErrorKind::Local,
            format!("the system does not allow to listen at {bind}: choose a port from 1024 on"),
        ),
        _ => (
            TransportErrorKind::Local,
            format!("the system cannot listen at {bind}"),
        ),
    };
    TransportError::new(kind, text).with_source(error)
}

/// Returns the address under which a server that listens on `ip` can be reached.
pub(crate) fn reachable_ip(ip: IpAddr) -> IpAddr {
    match ip.is_unspecified() {
        true => outward_ip(ip),
        false => ip,
    }
}

/// Returns the address that this machine uses towards others, for a server that listens on all of
/// them. Connecting a UDP socket sends nothing; the system only chooses the route. The targets are
/// those reserved for documentation (RFC 5737, RFC 3849).
fn outward_ip(unspecified: IpAddr) -> IpAddr {
    let (target, loopback): (IpAddr, IpAddr) = match unspecified {
        IpAddr::V4(_) => (
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv4Addr::LOCALHOST.into(),
        ),
        IpAddr::V6(_) => (
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            Ipv6Addr::LOCALHOST.into(),
        ),
    };
    let ask = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect((target, 9))?;
        socket.local_addr()
    };
    match ask() {
        Ok(address) if !address.ip().is_unspecified() => address.ip(),
        _ => loopback,
    }
}

/// What the accepting task needs.
struct Door {
    listener: TcpListener,
    shared: Shared,
    service: Arc<dyn Service>,
    deadlines: Deadlines,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    tasks: std::sync::Weak<Tasks>,
    stopping: watch::Receiver<bool>,
}

impl Door {
    async fn accept(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => self.let_in(stream, remote),
                Err(error) => {
                    // The system lacks files or memory, or the caller has gone already.
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn let_in(&self, stream: TcpStream, remote: SocketAddr) {
        let Some(tasks) = self.tasks.upgrade() else {
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%remote, %error, "small answers may be delayed");
        }
        let connection = Connection::new(
            Arc::clone(&self.service),
            remote,
            self.deadlines,
            self.tasks.clone(),
            self.shared.clone(),
        );
        connection.arrive();
        let stopping = self.stopping.clone();
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            tasks.spawn(connection.serve_tls(tls, stream, stopping));
            return;
        }
        tasks.spawn(connection.serve(stream, stopping));
    }
}
