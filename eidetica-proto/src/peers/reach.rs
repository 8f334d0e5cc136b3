//! From where an address leads to the peer that it is meant for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::Address;

/// From where an address can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From no place: it names no interface, no port, or a group of machines.
    Nowhere,
    /// From the same machine.
    SameMachine,
    /// From anywhere, as far as the address tells.
    Anywhere,
}

/// Where a peer is, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    SameMachine,
    /// On another one.
    Elsewhere,
}

impl Reach {
    /// Tells whether a peer at this place can use the address.
    pub fn includes(self, place: Place) -> bool {
        match self {
            Self::Nowhere => false,
            Self::SameMachine => place == Place::SameMachine,
            Self::Anywhere => true,
        }
    }
}

/// Returns from where an address can be used. Only values of the form `host:port` or `host:port/path`
/// are understood; any other is a matter of its transport and counts as usable.
pub fn reach(address: &Address) -> Reach {
    let value = address.value();
    let value = value.split('/').next().unwrap_or(value);
    if let Ok(socket) = value.parse::<SocketAddr>() {
        return match socket.port() {
            0 => Reach::Nowhere,
            _ => reach_of_ip(socket.ip()),
        };
    }
    if let Ok(ip) = value.parse::<IpAddr>() {
        return reach_of_ip(ip);
    }
    let Some((host, port)) = value.rsplit_once(':') else {
        return Reach::Anywhere;
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_local = host == "localhost" || host.ends_with(".localhost");
    match port.parse::<u16>() {
        Ok(0) => Reach::Nowhere,
        Ok(_) if is_local => Reach::SameMachine,
        Ok(_) | Err(_) => Reach::Anywhere,
    }
}

fn reach_of_ip(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_of_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => reach_of_v4(mapped),
            None => reach_of_v6(ip),
        },
    }
}

fn reach_of_v4(ip: Ipv4Addr) -> Reach {
    // All of 0.0.0.0/8 is "this network" (RFC 1122, 3.2.1.3).
    if ip.octets()[0] == 0 || ip.is_broadcast() || ip.is_multicast() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::SameMachine
    } else {
        Reach::Anywhere
    }
}

fn reach_of_v6(ip: Ipv6Addr) -> Reach {
    // A link-local address means something only together with an interface of its reader.
    if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() {
        Reach::Nowhere
    } else if ip.is_loopback() {
        Reach::SameMachine
    } else {
        Reach::Anywhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_address_has_its_reach() {
        let of = |text: &str| reach(&text.parse().expect("an address"));
        for nowhere in [
            "http:0.0.0.0:80",
            "http:0.1.2.3:80",
            "http:[::]:80",
            "http:[::ffff:0.0.0.0]:80",
            "http:192.0.2.1:0",
            "http:example.org:0",
            "http:255.255.255.255:80",
            "http:224.0.0.1:80",
            "http:[ff02::1]:80",
            "http:[fe80::1]:80",
            "tcp:0.0.0.0",
        ] {
            assert_eq!(of(nowhere), Reach::Nowhere, "{nowhere}");
        }
        for here in [
            "http:127.0.0.1:80",
            "http:127.9.9.9:80",
            "http:127.0.0.1:80/path",
            "https:[::1]:80",
            "http:[::ffff:127.0.0.1]:80",
            "http:localhost:80",
            "http:LOCALHOST.:80",
            "http:a.localhost:80",
        ] {
            assert_eq!(of(here), Reach::SameMachine, "{here}");
        }
        for anywhere in [
            "http:192.168.1.2:80",
            "http:[2001:db8::1]:80",
            "https:example.org:443",
            "https:example.org:443/path",
            "iroh:endpointabc",
            "http:notlocalhost:80",
        ] {
            assert_eq!(of(anywhere), Reach::Anywhere, "{anywhere}");
        }
    }
}
