//! `http:host:port`, and with TLS `https:host:port`; a path may follow, such as
//! `https:sync.example.org:443/team`, where a proxy serves this protocol below a path.

use eidetica_proto::{Address, TransportError, TransportErrorKind};
use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery};

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

/// Where a server is, as an address says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    /// What precedes the paths of the protocol: empty, or a path without a slash at its end.
    pub(crate) prefix: String,
}

/// Reads the host, the port and the path out of an address.
pub(crate) fn parse(address: &Address) -> Result<Target, TransportError> {
    let unusable = |why: &str| {
        TransportError::new(
            TransportErrorKind::UnusableAddress,
            format!(
                "{address} is not of the form http:host:port or https:host:port, with or without a \
                 path: {why}"
            ),
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
    let (server, path) = split_path(address.value());
    let authority: Authority = server
        .parse()
        .map_err(|error| unusable("it names no host").with_source(error))?;
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(unusable("it names no host"));
    }
    match authority.port_u16() {
        None => return Err(unusable("the port is missing")),
        Some(0) => return Err(unusable("no server can listen on port 0")),
        Some(_) => {}
    }
    let prefix = path.trim_end_matches('/');
    let is_path = |text: &str| text.parse::<PathAndQuery>().is_ok() && !text.contains(['?', '#']);
    if !(prefix.is_empty() || is_path(prefix)) {
        return Err(unusable("what follows the port is not a path"));
    }
    Ok(Target {
        scheme,
        authority,
        prefix: prefix.to_owned(),
    })
}

/// Splits `host:port/path` before the path.
fn split_path(value: &str) -> (&str, &str) {
    value.split_at(value.find('/').unwrap_or(value.len()))
}

/// Reads the address of a server as people write it: a URL such as `https://sync.example.org/team`,
/// whose port can be missing, or an address such as `https:sync.example.org:443/team`.
///
/// # Errors
/// [`TransportErrorKind::UnusableAddress`] if it is neither.
pub fn address_of_url(text: &str) -> Result<Address, TransportError> {
    let unusable = |why: String| TransportError::new(TransportErrorKind::UnusableAddress, why);
    let address = match text.parse::<Uri>() {
        Ok(url) if text.contains("://") => {
            if url.query().is_some() || text.contains(['#', '@']) {
                return Err(unusable(format!(
                    "{text:?} has more than a host and a path"
                )));
            }
            let scheme = url.scheme_str().unwrap_or_default();
            let (host, port) = (url.host().unwrap_or_default(), url.port_u16());
            let port = port.unwrap_or(if scheme == "http" { 80 } else { 443 });
            let path = url.path().trim_end_matches('/');
            Address::new(scheme, &format!("{host}:{port}{path}"))
        }
        _ => text.parse(),
    };
    let address = address.map_err(|error| unusable(error.to_string()))?;
    parse(&address)?;
    Ok(address)
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
            let target = parse(&address).expect("well formed");
            assert_eq!(target.scheme, Scheme::Http);
            assert_eq!(target.authority.as_str(), address.value());
            assert_eq!(target.prefix, "");
        }
    }

    #[test]
    fn a_path_may_follow() {
        for (text, prefix) in [
            ("http:h:80/", ""),
            ("http:h:80/a", "/a"),
            ("http:[::1]:80/a/b/", "/a/b"),
        ] {
            let target = parse(&text.parse().expect("an address")).expect("well formed");
            assert_eq!(target.prefix, prefix, "{text}");
            assert!(!target.authority.as_str().contains('/'));
        }
    }

    #[test]
    fn urls_are_read_as_addresses() {
        for (url, address) in [
            ("http://h", "http:h:80"),
            ("http://h:8080/", "http:h:8080"),
            ("http://[::1]/a/b/", "http:[::1]:80/a/b"),
            ("http:h:80/a", "http:h:80/a"),
        ] {
            assert_eq!(address_of_url(url).expect(url).as_str(), address);
        }
        if cfg!(feature = "tls") {
            let address = address_of_url("https://sync.example.org/team").expect("a URL");
            assert_eq!(address.as_str(), "https:sync.example.org:443/team");
        }
        for text in [
            "ftp://h",
            "http://",
            "http://h/?a",
            "http://u@h/",
            "h",
            "http:h",
            "http://h:0/",
            "",
        ] {
            let error = address_of_url(text).expect_err(text);
            assert_eq!(error.kind(), TransportErrorKind::UnusableAddress, "{text}");
        }
    }

    #[test]
    fn https_needs_tls() {
        let address: Address = "https:[::1]:443".parse().expect("an address");
        match (cfg!(feature = "tls"), parse(&address)) {
            (true, Ok(target)) => {
                assert_eq!(target.scheme, Scheme::Https);
                assert_eq!(target.authority.as_str(), "[::1]:443");
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
            "host/path",
            "host:80/path?query",
            "host:80/path#part",
            "host:80/<>",
            "/path",
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
