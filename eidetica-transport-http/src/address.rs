//! `http:host:port`.

use eidetica_proto::{Address, TransportError, TransportErrorKind};
use hyper::http::uri::Authority;

/// The kind of address that this transport understands.
pub(crate) const KIND: &str = "http";

/// Reads the host and the port out of an address.
pub(crate) fn parse(address: &Address) -> Result<Authority, TransportError> {
    let unusable = |why: &str| {
        TransportError::new(
            TransportErrorKind::UnusableAddress,
            format!("{address} is not of the form http:host:port: {why}"),
        )
    };
    if address.kind() != KIND {
        return Err(unusable("it is of another kind"));
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
        Some(0) => Err(unusable("nobody can listen on port 0")),
        Some(_) => Ok(authority),
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
            let authority = parse(&address).expect("well formed");
            assert_eq!(authority.as_str(), address.value());
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
