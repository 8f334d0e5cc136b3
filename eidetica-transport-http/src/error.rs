//! The meaning of hyper's errors and of HTTP's statuses.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use eidetica_proto::{Address, TransportError, TransportErrorKind};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, DATE, HeaderName, LOCATION, RETRY_AFTER};
use hyper::http::response::Parts;

use crate::address::address_of_url;

/// Returns an error and its causes.
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

/// Returns why there is no connection to `address`.
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
            format!("no server listens at {address}"),
        ),
        Some(io::ErrorKind::TimedOut) => (
            TransportErrorKind::TimedOut,
            format!("{address} did not accept the connection in time"),
        ),
        _ => (
            TransportErrorKind::Unreachable,
            format!("{address} is unreachable: check the name and the network"),
        ),
    };
    TransportError::new(kind, text).with_source(error)
}

/// Returns why a connection gave no answer.
pub(crate) fn exchange(
    address: &Address,
    error: impl StdError + Send + Sync + 'static,
) -> TransportError {
    let not_http = find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse);
    let lost = find::<io::Error>(&error).is_some();
    // HTTP/2 errors that this side found, rather than the peer: it speaks something else.
    let not_http2 = find::<h2::Error>(&error).is_some_and(|error| error.is_library());
    let error_is_theirs = not_http || (not_http2 && !lost);
    match error_is_theirs {
        true => mismatch(
            address,
            "the answer is not HTTP of the version asked for (a server with TLS is at \
             https:host:port)",
        ),
        false => TransportError::connection_lost(format!(
            "the connection to {address} was lost before the answer began"
        )),
    }
    .with_source(error)
}

/// Returns the error that an answer without frames means. `text` is what its body says.
pub(crate) fn refusal(address: &Address, head: &Parts, text: &str) -> TransportError {
    use TransportErrorKind as Kind;
    let status = head.status;
    let (kind, text) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => (
            Kind::RequestTooLarge,
            format!(
                "{address} refuses a request of this size (413): a proxy limits the length of \
                 bodies; raise its limit"
            ),
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            Kind::Busy,
            format!("{address} received too many requests (429); retry later"),
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            Kind::Busy,
            format!("{address} has no room for another exchange (503); retry later"),
        ),
        StatusCode::BAD_GATEWAY => (
            Kind::Unreachable,
            format!("the proxy at {address} cannot reach the server (502): is the server running?"),
        ),
        StatusCode::GATEWAY_TIMEOUT => (
            Kind::TimedOut,
            format!("the proxy at {address} got no answer from the server in time (504)"),
        ),
        StatusCode::MISDIRECTED_REQUEST => {
            let text = format!(
                "the server at {address} does not answer to this name (421): start it with \
                 `--allow-host` or `--advertise` and the name"
            );
            return TransportError::new(Kind::UnusableAddress, text);
        }
        // The server itself reports its failures in frames.
        _ if status.is_server_error() => (
            Kind::Unreachable,
            format!(
                "a proxy at {address} failed ({}); retry later",
                status.as_u16()
            ),
        ),
        _ if status.is_redirection() => return redirected(address, head),
        _ => {
            let media_type = header(head, CONTENT_TYPE).unwrap_or("no");
            let why = format!("it answers {status} with {media_type} content {text:?}");
            return mismatch(address, &why);
        }
    };
    let error = TransportError::new(kind, text);
    match retry_after(head) {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// Returns the error of an address that leads to another. Redirects are not followed: a request is
/// signed for one peer, and a push must not be sent twice.
fn redirected(address: &Address, head: &Parts) -> TransportError {
    let status = head.status;
    let to = header(head, LOCATION).unwrap_or("an unnamed place");
    let exchange = format!("/eidetica/v{}/exchange", eidetica_proto::PROTOCOL_VERSION);
    let server = to.strip_suffix(&exchange);
    let advice = match server.and_then(|server| address_of_url(server).ok()) {
        Some(address) => format!("use the address {address}"),
        None => "use the final address".to_owned(),
    };
    let text = format!("{address} redirects to {to} ({status}), which is not followed: {advice}");
    TransportError::new(TransportErrorKind::ProtocolMismatch, text)
}

/// Returns the text of a header, if it has one.
fn header(head: &Parts, name: HeaderName) -> Option<&str> {
    head.headers.get(name)?.to_str().ok()
}

/// Reads `Retry-After`: seconds, or a date that is compared with the server's own clock (RFC 9110,
/// section 10.2.3).
fn retry_after(head: &Parts) -> Option<Duration> {
    let text = header(head, RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let sent = httpdate::parse_http_date(header(head, DATE)?).ok()?;
    Some(until.duration_since(sent).unwrap_or_default())
}

/// Returns the error of an address where something else answers.
pub(crate) fn mismatch(address: &Address, why: &str) -> TransportError {
    TransportError::new(
        TransportErrorKind::ProtocolMismatch,
        format!(
            "{address} does not speak version {} of the protocol: {why}",
            eidetica_proto::PROTOCOL_VERSION
        ),
    )
}

/// Returns the error of every call on a closed transport.
pub(crate) fn closed() -> TransportError {
    TransportError::new(TransportErrorKind::Closed, "this transport is closed")
}
