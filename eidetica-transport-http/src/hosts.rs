//! The names to which a server answers.
//!
//! The owner of a web page can have its name lead to a server in the visitor's network or on the
//! visitor's machine (DNS rebinding). The browser then lets the page read what the server answers,
//! since both have one name. So a server answers only to names that are its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use hyper::http::uri::Authority;
use hyper::{Request, StatusCode, header};

use crate::address;
use crate::json::Json;
use crate::settings::Settings;

/// The names of a server, and the paths below which proxies serve it.
pub(crate) struct Hosts {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(settings: &Settings) -> Self {
        let advertised = settings.advertised.iter();
        let advertised: Vec<_> = advertised
            .filter_map(|it| address::parse(it).ok())
            .collect();
        let of_addresses = advertised.iter().map(|it| it.authority.host());
        let own = settings.hosts.iter().chain(&settings.allowed_hosts);
        let names = of_addresses.chain(own.map(String::as_str));
        let mut prefixes: Vec<String> = advertised.iter().map(|it| it.prefix.clone()).collect();
        prefixes.retain(|prefix| !prefix.is_empty());
        Self {
            names: names.map(normal).collect(),
            prefixes,
        }
    }

    /// Checks that a request is for this server: it names a host once, and each host that it names is
    /// one of the server's.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Json> {
        let mut headers = request.headers().get_all(header::HOST).iter();
        let (first, second) = (headers.next(), headers.next());
        // HTTP/2 has the host in the URL; so may HTTP/1.1, beside the header.
        let of_url = request.uri().authority();
        if second.is_some() || (first.is_none() && of_url.is_none()) {
            let text = "a request names exactly one host";
            return Err(Json::error(StatusCode::BAD_REQUEST, text));
        }
        let of_header = first.map(|value| value.to_str().ok()?.parse::<Authority>().ok());
        let of_url = of_url.map(|authority| Some(authority.clone()));
        for host in of_header.into_iter().chain(of_url) {
            let is_own = host.as_ref().is_some_and(|it| self.includes(it));
            if !is_own {
                return Err(Json::error(
                    StatusCode::MISDIRECTED_REQUEST,
                    "this server does not answer to this name: allow it on the server",
                ));
            }
        }
        Ok(())
    }

    fn includes(&self, authority: &Authority) -> bool {
        let host = normal(authority.host());
        !authority.as_str().contains('@')
            && (is_ip(&host) || is_localhost(&host) || self.names.contains(&host))
    }

    /// Returns a path without what a proxy puts before it.
    pub(crate) fn without_prefix<'a>(&self, path: &'a str) -> &'a str {
        let mut rests = self.prefixes.iter().filter_map(|prefix| {
            path.strip_prefix(prefix.as_str())
                .filter(|rest| rest.starts_with('/'))
        });
        rests.next().unwrap_or(path)
    }
}

/// Names are compared without case and without the dot of a full name.
fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// A page at an IP address has come from this address, or from one that the visitor was sent to on
/// purpose: no name can lead elsewhere meanwhile.
fn is_ip(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match in_brackets {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok(),
    }
}

/// Browsers resolve these names themselves (RFC 6761, section 6.3).
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(&Settings {
            advertised: vec!["http:Sync.Example.org:80/team".parse().expect("an address")],
            hosts: vec!["own.example".to_owned()],
            allowed_hosts: vec!["lan.".to_owned()],
            ..Settings::default()
        })
    }

    fn status(url: &str, headers: &[&str]) -> Option<StatusCode> {
        let request = headers.iter().fold(Request::get(url), |request, host| {
            request.header(header::HOST, *host)
        });
        let request = request.body(()).expect("a request");
        hosts().check(&request).err().map(|json| json.status)
    }

    #[test]
    fn own_names_and_ip_addresses_are_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:8080",
            "[2001:db8::1]",
            "localhost:1",
            "a.localhost",
            "sync.example.org",
            "SYNC.example.org.:443",
            "own.example:9",
            "lan",
        ] {
            assert_eq!(status("/", &[host]), None, "{host}");
        }
        assert_eq!(status("http://lan:80/", &[]), None);
        assert_eq!(status("http://lan:80/", &["lan"]), None);
    }

    #[test]
    fn other_names_are_refused() {
        let misdirected = Some(StatusCode::MISDIRECTED_REQUEST);
        for host in [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "sync.example.org.evil.example",
            "u@localhost",
            "",
            "a b",
        ] {
            assert_eq!(status("/", &[host]), misdirected, "{host}");
        }
        assert_eq!(status("http://evil.example/", &["lan"]), misdirected);
        assert_eq!(status("http://lan/", &["evil.example"]), misdirected);
        let bad = Some(StatusCode::BAD_REQUEST);
        assert_eq!(status("/", &[]), bad);
        assert_eq!(status("/", &["lan", "lan"]), bad);
        assert_eq!(status("/", &["lan", "evil.example"]), bad);
    }

    #[test]
    fn the_path_of_a_proxy_is_taken_off() {
        let hosts = hosts();
        for (path, rest) in [
            ("/team/eidetica/v2/x", "/eidetica/v2/x"),
            ("/eidetica/v2/x", "/eidetica/v2/x"),
            ("/teams/eidetica", "/teams/eidetica"),
            ("/team", "/team"),
        ] {
            assert_eq!(hosts.without_prefix(path), rest);
        }
    }
}
