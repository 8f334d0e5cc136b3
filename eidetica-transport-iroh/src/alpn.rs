//! The name of the protocol in QUIC's handshake.

/// The protocol and its version, as QUIC's handshake negotiates them.
pub const ALPN: &[u8] = ALPN_TEXT.as_bytes();

pub(crate) const ALPN_TEXT: &str = "eidetica/2";

// The text above contains the version because a constant cannot be formatted.
const _: () = assert!(eidetica_proto::PROTOCOL_VERSION == 2);
