//! `http:host:port`, and with TLS `https:host:port`.

use eidetica_proto::{Address, TransportError, TransportErrorKind};
use hyper::http::uri::Authority;

/// The protocol below HTTP, by the kind of the address and the scheme of the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// TCP.
    Http,
    /// TLS over TCP.
    Https,
}

impl Scheme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the scheme of a kind of address that this transport understands.
    pub(crate) fn of(address: &Address) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.as_str() == address.kind())
    }

    /// Tells whether it can be spoken here.
    pub(crate) fn is_built_in(self) -> bool {
        self == Self::Http || cfg!(feature = "tls")
    }
}

/// The kind of the transport, whatever is spoken below it.
pub(crate) const KIND: &str = Scheme::Http.as_str();

/// Reads the host and the port out of an address.
pub(crate) fn parse(address: &Address) -> Result<(Scheme, Authority), TransportError> {
    let unusable = |why: &str| {
        TransportError::new(
            TransportErrorKind::UnusableAddress,
            format!("{address} is not of the form http:host:port or https:host:port: {why}"),
        )
    };
    let scheme = Scheme::of(address).ok_or_else(|| unusable("it is of another kind"))?;
    if !scheme.is_built_in() {
        let text = format!("{address} needs TLS: build this program with the feature tls");
        return Err(TransportError::new(
            TransportErrorKind::UnusableAddress,
            text,
        ));
    }
    let authority: Authority = address
        .value()
        .parse()
        .map_err(|error| unusable("it names no host").with_source(error))?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(unusable("it names no host"));
    }
    match authority.port_u16() {
        None => Err(unusable("the port is missing")),
        Some(0) => Err(unusable("no server can listen on port 0")),
        Some(_) => Ok((scheme, authority)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        for text in [
            "http:127.0.0.1:8080",
            "http:[::1]:80",
            "http:sync.example:443",
        ] {
            let address: Address = text.parse().expect("an address");
            let (scheme, authority) = parse(&address).expect("well formed");
            assert_eq!(scheme, Scheme::Http);
            assert_eq!(authority.as_str(), address.value());
        }
    }

    #[test]
    fn https_needs_tls() {
        let address: Address = "https:[::1]:443".parse().expect("an address");
        match (cfg!(feature = "tls"), parse(&address)) {
            (true, Ok((scheme, authority))) => {
                assert_eq!((scheme, authority.as_str()), (Scheme::Https, "[::1]:443"));
            }
            (false, Err(error)) => {
                assert_eq!(error.kind(), TransportErrorKind::UnusableAddress);
                assert!(error.to_string().contains("feature tls"), "{error}");
            }
            (_, other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn whatever_is_not_host_and_port_is_unusable() {
        for value in [
            "host",
            "host:",
            ":80",
            "host:0",
            "host:99999",
            "host:http",
            "//host:80",
            "host:80/path",
            "user@host:80",
            "[::1:80",
            "a:b:80",
        ] {
            let address = Address::new(KIND, value).expect("an address");
            let error = parse(&address).expect_err(value);
            assert_eq!(error.kind(), TransportErrorKind::UnusableAddress, "{value}");
        }
    }
}
