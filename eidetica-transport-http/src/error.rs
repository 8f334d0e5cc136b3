//! What hyper's errors mean.

use std::error::Error as StdError;
use std::io;

use eidetica_proto::{Address, TransportError, TransportErrorKind};

/// The errors behind an error, itself first.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

pub(crate) fn find<'a, E: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// Says why the connection to `address` could not be made.
pub(crate) fn connect(
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
) -> TransportError {
    #[cfg(feature = "tls")]
    if let Some(failed) = find::<crate::tls::Failed>(&error)
        && let Some(tls) = crate::tls::error(address, failed)
    {
        return tls.with_source(error);
    }
    let kind = find::<io::Error>(&error).map(io::Error::kind);
    let (kind, text) = match kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            TransportErrorKind::Refused,
            format!("nobody listens at {address}"),
        ),
        Some(io::ErrorKind::TimedOut) => (
            TransportErrorKind::TimedOut,
            format!("{address} did not take the connection in time"),
        ),
        _ => (
            TransportErrorKind::Unreachable,
            format!("{address} cannot be reached: does the name exist, is the network up?"),
        ),
    };
    TransportError::new(kind, text).with_source(error)
}

/// Says why a connection that was made gave no answer.
pub(crate) fn exchange(
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
) -> TransportError {
    let not_http = find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse);
    let lost = find::<io::Error>(&error).is_some();
    // Errors of HTTP/2 that are found here, rather than told by the peer: it speaks something else.
    let not_http2 = find::<h2::Error>(&error).is_some_and(|error| error.is_library());
    let error_is_theirs = not_http || (not_http2 && !lost);
    match error_is_theirs {
        true => mismatch(
            address,
            "what it answers is not HTTP of the version asked for (whoever speaks TLS there is \
             at https:host:port)",
        ),
        false => TransportError::connection_lost(format!(
            "the connection to {address} broke before the answer began"
        )),
    }
    .with_source(error)
}

/// Says that whoever answers at `address` does not speak this protocol.
pub(crate) fn mismatch(address: &Address, why: &str) -> TransportError {
    TransportError::new(
        TransportErrorKind::ProtocolMismatch,
        format!(
            "{address} does not speak version {} of the protocol: {why}",
            eidetica_proto::PROTOCOL_VERSION
        ),
    )
}

/// The error of every call on a closed transport.
pub(crate) fn closed() -> TransportError {
    TransportError::new(TransportErrorKind::Closed, "this transport was closed")
}
