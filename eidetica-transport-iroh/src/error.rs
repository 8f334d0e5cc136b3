//! Turns the errors of iroh and QUIC into [`TransportError`]s.

use std::error::Error as StdError;
use std::io;

use eidetica_proto::{TransportError, TransportErrorKind as Kind};
use iroh::endpoint::{
    BindError, ConnectError, ConnectWithOptsError, ConnectingError, ConnectionError, ReadError,
    TransportErrorCode, VarInt, WriteError,
};

use crate::alpn::ALPN_TEXT;

/// The stream was abandoned before its end.
pub(crate) const RESET_ABANDONED: VarInt = VarInt::from_u32(1);

/// The side that closes has completed every exchange that it accepted, so any other exchange on this
/// connection was not looked at and may be sent again on another.
pub(crate) const CLOSE_LEAVING: VarInt = VarInt::from_u32(1);
/// Exchanges in progress were cut.
pub(crate) const CLOSE_CUT: VarInt = VarInt::from_u32(2);
/// The peer has too many connections here, or others need the room that this one takes.
pub(crate) const CLOSE_BUSY: VarInt = VarInt::from_u32(3);
/// The server does not run.
pub(crate) const CLOSE_NOT_SERVING: VarInt = VarInt::from_u32(4);

/// TLS alert 48, `unknown_ca` (RFC 8446, section 6.2): iroh's verifier raises it when the key that
/// the peer proves is not the key that was dialled.
const ALERT_UNKNOWN_CA: u8 = 48;
/// TLS alert 120, `no_application_protocol` (RFC 7301, section 3.2).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

pub(crate) fn of_bind(error: BindError) -> TransportError {
    let kind = match io_kind(&error) {
        Some(io::ErrorKind::AddrInUse) => Kind::AddressInUse,
        _ => Kind::Local,
    };
    let text = match kind {
        Kind::AddressInUse => {
            "the address to listen on is in use: choose another, or stop the program that uses it"
        }
        _ => "the iroh endpoint could not be bound on this machine",
    };
    TransportError::new(kind, text).with_source(error)
}

/// Returns the kind of the system's error among the causes.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .next()
}

pub(crate) fn of_connect(error: ConnectError) -> TransportError {
    let (kind, text) = match &error {
        ConnectError::Connect { source, .. } => match source {
            ConnectWithOptsError::SelfConnect { .. } => (
                Kind::UnusableAddress,
                "the address is this node's own".to_owned(),
            ),
            ConnectWithOptsError::NoAddress { .. } => (
                Kind::Unreachable,
                "no address of the peer is known: use a ticket that contains addresses, \
                 or enable address lookup"
                    .to_owned(),
            ),
            ConnectWithOptsError::EndpointClosed { .. } => closed(),
            _ => (
                Kind::Local,
                "the connection could not be started".to_owned(),
            ),
        },
        ConnectError::Connecting { source, .. } => match source {
            ConnectingError::ConnectionError { source, .. } => while_connecting(source),
            ConnectingError::HandshakeFailure { .. } => (
                Kind::ProtocolMismatch,
                format!("the peer does not speak {ALPN_TEXT}"),
            ),
            _ => (
                Kind::Local,
                "the connection attempt was abandoned".to_owned(),
            ),
        },
        ConnectError::Connection { source, .. } => while_connecting(source),
        _ => (Kind::Local, "the connection could not be made".to_owned()),
    };
    TransportError::new(kind, text).with_source(error)
}

fn while_connecting(error: &ConnectionError) -> (Kind, String) {
    match error {
        ConnectionError::TimedOut => (
            Kind::TimedOut,
            "the peer did not answer: it is off, or the address is old".to_owned(),
        ),
        ConnectionError::Reset => (
            Kind::Refused,
            "another program answers at the address".to_owned(),
        ),
        other => describe(other),
    }
}

/// Returns what a lost connection means for the exchange on it.
pub(crate) fn of_connection(error: ConnectionError) -> TransportError {
    let (kind, text) = describe(&error);
    TransportError::new(kind, text).with_source(error)
}

fn describe(error: &ConnectionError) -> (Kind, String) {
    let lost = |text: &str| (Kind::ConnectionLost, text.to_owned());
    match error {
        ConnectionError::VersionMismatch => (
            Kind::ProtocolMismatch,
            "the peer speaks no common version of QUIC".to_owned(),
        ),
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL) =>
        {
            (
                Kind::ProtocolMismatch,
                format!("the peer speaks another protocol, or another version than {ALPN_TEXT}"),
            )
        }
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            (
                Kind::Refused,
                "the peer is reachable but accepts no connections: its server does not run, \
                 or has no room"
                    .to_owned(),
            )
        }
        ConnectionError::TransportError(error)
            if error.code == TransportErrorCode::crypto(ALERT_UNKNOWN_CA) =>
        {
            (
                Kind::WrongPeer,
                "another peer answers at the address: its key is not the one dialled".to_owned(),
            )
        }
        ConnectionError::ApplicationClosed(close) => match close.error_code {
            CLOSE_LEAVING => lost("the peer closed the connection"),
            CLOSE_CUT => lost("the peer stopped before the exchange was over"),
            CLOSE_BUSY => (
                Kind::Busy,
                "the peer has no room for this connection; retry later".to_owned(),
            ),
            CLOSE_NOT_SERVING => (
                Kind::Refused,
                "the peer is reachable but its server does not run".to_owned(),
            ),
            _ => lost("the peer's program closed the connection"),
        },
        ConnectionError::LocallyClosed => closed(),
        ConnectionError::TimedOut => lost("the peer fell silent"),
        ConnectionError::Reset => lost("the peer has forgotten the connection: it was restarted"),
        _ => lost("the connection was lost"),
    }
}

fn closed() -> (Kind, String) {
    (Kind::Closed, "this transport is closed".to_owned())
}

/// Returns the error of every call on a closed transport.
pub(crate) fn of_closed() -> TransportError {
    let (kind, text) = closed();
    TransportError::new(kind, text)
}

pub(crate) fn of_read(error: ReadError) -> TransportError {
    match error {
        ReadError::ConnectionLost(error) => of_connection(error),
        error => TransportError::connection_lost("the other side stopped before its last frame")
            .with_source(error),
    }
}

pub(crate) fn of_write(error: WriteError) -> TransportError {
    match error {
        WriteError::ConnectionLost(error) => of_connection(error),
        error => TransportError::connection_lost("the other side accepts no more frames")
            .with_source(error),
    }
}
