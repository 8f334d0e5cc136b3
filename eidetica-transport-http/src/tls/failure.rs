//! Why no connection came about, and what that means.

use std::io;

use eidetica_proto::{Address, TransportError, TransportErrorKind};
use rustls::{AlertDescription, CertificateError, Error as Tls};

use super::TlsError;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("no connection")]
    Tcp(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("what this side needs for TLS is not there")]
    Here(#[source] TlsError),
    #[error("the host cannot be named in a certificate")]
    NoName,
    #[error("the handshake failed")]
    Handshake(#[source] Tls),
    #[error("the connection was lost within the handshake")]
    Lost(#[source] io::Error),
    #[error("the handshake took too long")]
    Late,
}

impl Failed {
    pub(super) fn tcp(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Tcp(error.into())
    }

    pub(super) fn handshake(error: io::Error) -> Self {
        // What rustls says is wrapped into an error of the system.
        match error.downcast::<Tls>() {
            Ok(tls) => Self::Handshake(tls),
            Err(lost) => Self::Lost(lost),
        }
    }
}

/// Says what it means for an exchange, unless TLS has nothing to do with it.
pub(crate) fn error(address: &Address, failed: &Failed) -> Option<TransportError> {
    use TransportErrorKind as Kind;
    let (kind, text) = match failed {
        Failed::Tcp(_) => return None,
        Failed::Here(error) => (Kind::Local, error.to_string()),
        Failed::NoName => (
            Kind::UnusableAddress,
            format!("no certificate can be for the host of {address}"),
        ),
        Failed::Late => (
            Kind::TimedOut,
            format!("{address} did not take the connection in time"),
        ),
        Failed::Lost(_) => (
            Kind::ConnectionLost,
            format!("the connection to {address} broke before it was secure"),
        ),
        Failed::Handshake(Tls::InvalidCertificate(why)) => (
            Kind::WrongPeer,
            format!("the certificate of {address} {}", untrusted(why)),
        ),
        Failed::Handshake(Tls::NoCertificatesPresented) => (
            Kind::WrongPeer,
            format!("{address} shows no certificate, so its identity is unknown"),
        ),
        Failed::Handshake(Tls::InvalidMessage(_)) => (
            Kind::ProtocolMismatch,
            format!("{address} does not speak TLS: a server without it is at http:host:port"),
        ),
        Failed::Handshake(Tls::AlertReceived(AlertDescription::NoApplicationProtocol)) => (
            Kind::ProtocolMismatch,
            format!("{address} does not speak the version of HTTP asked for"),
        ),
        Failed::Handshake(_) => (
            Kind::ProtocolMismatch,
            format!("{address} and this side have no way of TLS in common"),
        ),
    };
    Some(TransportError::new(kind, text))
}

/// Explains the fault of a certificate, and what to do.
fn untrusted(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for other names: use an address with one of those, or let the server have a \
             certificate for this one"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: it must be renewed there (or the clock here is wrong)"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: is the clock here right?"
        }
        // The second: it claims a trusted issuer, and is not signed by it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by a trusted issuer: get the certificate from the operator of the \
             server, in a way that you trust, and name it as trusted. If it already is, another \
             server answers there"
        }
        _ => "cannot be trusted: the operator of the server must replace it",
    }
}
