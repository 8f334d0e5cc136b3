//! The answering side: accepts connections until it stops.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use eidetica_proto::{Address, Service, TransportError, TransportErrorKind};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::address::Scheme;
use crate::connection::{Connection, JsonApiSlot, Shared};
use crate::hosts::Hosts;
use crate::limits::{ACCEPT_BACKLOG, ACCEPT_BACKOFF, FREED_BACKOFF};
use crate::options::Deadlines;
use crate::places::Places;
use crate::quota::Quota;
use crate::settings::Settings;
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
    /// Starts to listen on `bind`.
    pub(crate) fn start(
        bind: SocketAddr,
        service: Arc<dyn Service>,
        json_api: JsonApiSlot,
        settings: &Settings,
    ) -> Result<Self, TransportError> {
        let listener = listen(bind).map_err(|error| listen_error(bind, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| listen_error(bind, error))?;
        let tasks = Tasks::new();
        let stopping = watch::Sender::new(false);
        let acceptor = Acceptor {
            listener,
            shared: Shared {
                newcomers: Quota::new(settings.newcomers_max),
                answered: Places::new(settings.connections_max),
                memory: Quota::new(settings.unfinished_bytes_max),
                untaken: Quota::new(settings.untaken_bytes_max),
                json_api,
                hosts: Arc::new(Hosts::new(settings)),
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
            accepting: tokio::spawn(acceptor.accept()),
            stopping,
        })
    }

    /// Returns the address that the server listens on, as others see it.
    pub(crate) fn address(&self) -> Option<Address> {
        let ip = reachable_ip(self.address.ip());
        let value = SocketAddr::new(ip, self.address.port()).to_string();
        Address::new(self.scheme.as_str(), &value).ok()
    }

    /// Returns the addresses to advertise.
    pub(crate) fn addresses(&self, settings: &Settings) -> Vec<Address> {
        let port = self.address.port();
        let mut addresses = settings.advertised.clone();
        addresses.extend(settings.hosts.iter().filter_map(|host| {
            let value = match host.parse::<Ipv6Addr>() {
                Ok(ip) => SocketAddr::new(ip.into(), port).to_string(),
                Err(_) => format!("{host}:{port}"),
            };
            let address = Address::new(self.scheme.as_str(), &value);
            if let Err(error) = &address {
                tracing::warn!(host, %error, "a host cannot be part of an address");
            }
            address.ok()
        }));
        if addresses.is_empty() {
            addresses.extend(self.address());
        }
        addresses
    }

    /// Stops the server. When this returns, nothing of it is left.
    pub(crate) async fn stop(mut self, deadlines: Deadlines) {
        self.accepting.abort();
        // It was cancelled or has ended: either way the port is free.
        let _ = (&mut self.accepting).await;
        self.stopping.send_replace(true);
        if timeout(deadlines.stop_grace, self.tasks.idle())
            .await
            .is_err()
        {
            tracing::debug!("exchanges outlasted the grace time of the stop and are cut");
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

/// Sends small frames at once, and notices a caller that has gone without a word.
fn configure(stream: &TcpStream, deadlines: Deadlines) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Heartbeats alone would fill the system's buffer for a quarter of an hour first.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(deadlines.idle))?;
    #[cfg(not(target_os = "linux"))]
    let _ = deadlines;
    Ok(())
}

fn listen_error(bind: SocketAddr, error: io::Error) -> TransportError {
    let (kind, text) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            TransportErrorKind::AddressInUse,
            format!(
                "port {} of {} is in use: choose another, or stop the program that uses it",
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
            format!("permission denied to listen on {bind}: choose a port from 1024 on"),
        ),
        _ => (
            TransportErrorKind::Local,
            format!("cannot listen on {bind}"),
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

/// Returns the address that this machine uses towards others, for a server that listens on all
/// addresses. Connecting a UDP socket sends nothing; the system only chooses the route. The targets are
/// reserved for documentation (RFC 5737, RFC 3849).
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

/// Tells whether the process or the system has no more descriptors.
fn lacks_files(error: &io::Error) -> bool {
    // The numbers are the same on all systems that have them.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// What the accepting task needs.
struct Acceptor {
    listener: TcpListener,
    shared: Shared,
    service: Arc<dyn Service>,
    deadlines: Deadlines,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    tasks: std::sync::Weak<Tasks>,
    stopping: watch::Receiver<bool>,
}

impl Acceptor {
    async fn accept(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => self.serve(stream, remote),
                Err(error) => {
                    // The system lacks files or memory, or the caller has left already. A connection
                    // that says nothing holds what another needs.
                    let is_freed = lacks_files(&error) && self.shared.newcomers.give_up_one();
                    tracing::warn!(%error, is_freed, "a connection could not be accepted");
                    sleep(if is_freed {
                        FREED_BACKOFF
                    } else {
                        ACCEPT_BACKOFF
                    })
                    .await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, remote: SocketAddr) {
        let Some(tasks) = self.tasks.upgrade() else {
            return;
        };
        if let Err(error) = configure(&stream, self.deadlines) {
            tracing::debug!(%remote, %error, "a connection keeps the system's settings");
        }
        let connection = Connection::new(
            Arc::clone(&self.service),
            remote,
            self.deadlines,
            self.tasks.clone(),
            self.shared.clone(),
            self.stopping.clone(),
        );
        connection.arrive();
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            tasks.spawn(connection.serve_tls(tls, stream));
            return;
        }
        tasks.spawn(connection.serve(stream));
    }
}
