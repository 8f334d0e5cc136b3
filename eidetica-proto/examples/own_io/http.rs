//! Talks to a node that serves over HTTP: proves the keys of both sides, which a plain connection does
//! not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use eidetica_dag::{PublicKey, SecretKey};
use eidetica_proto::frame::{FrameReader, write_frame};
use eidetica_proto::message::{Hello, Request, RequestHeader};
use eidetica_proto::proof::{KnownPeer, Proving};
use eidetica_proto::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

use super::{Frames, Result, now_ns};

/// Follows the last frame of a body: a length that no frame has.
const END_MARK: [u8; 4] = [0xff; 4];

/// A node that serves at an address, and what is known of it.
pub(crate) struct NodeOverHttp {
    address: SocketAddr,
    key: SecretKey,
    known: KnownPeer,
}

impl NodeOverHttp {
    /// Greets the node at `address`, to learn its key, its epoch and its clock. A real program knows
    /// the key from a ticket and expects no other.
    pub(crate) fn greet(address: SocketAddr, key: SecretKey) -> Result<Self> {
        let hello = Hello {
            key: key.public(),
            versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
            addresses: vec![],
        };
        let header = RequestHeader::new(Request::Hello(hello)).encode();
        let proving = Proving::challenge(now_ns().to_le_bytes(), None, header);
        let (known, _) = post(address, &proving, &[])?;
        Ok(Self {
            address,
            key,
            known,
        })
    }

    /// Returns the key that the node has proved.
    pub(crate) fn key(&self) -> PublicKey {
        self.known.key
    }

    /// Sends a request that is signed with this side's key, and returns the response once its proof is
    /// checked.
    pub(crate) fn exchange(&mut self, mut request: Vec<Bytes>) -> Result<Frames> {
        let (header, nonce) = (request.remove(0), now_ns().to_le_bytes());
        let proving = Proving::sign(&self.key, &self.known, now_ms(), nonce, header);
        let (known, frames) = post(self.address, &proving, &request)?;
        self.known = known;
        Ok(frames)
    }
}

fn now_ms() -> u64 {
    (now_ns() / 1_000_000) as u64
}

/// Sends one request over HTTP/1.0, so that the body of the response ends with the connection.
fn post(address: SocketAddr, proving: &Proving, parts: &[Bytes]) -> Result<(KnownPeer, Frames)> {
    let mut body = Vec::new();
    for frame in proving.frames().iter().chain(parts) {
        write_frame(&mut body, frame)?;
    }
    body.extend_from_slice(&END_MARK);
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /eidetica/v{PROTOCOL_VERSION_MIN}/exchange HTTP/1.0\r\nhost: {address}\r\n\
         content-type: application/vnd.eidetica.frames\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;

    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let body = &response[head.ok_or("the response has no head")? + 4..];
    let frames = body.strip_suffix(&END_MARK).ok_or("the response was cut")?;
    let frames = FrameReader::new(frames).collect::<io::Result<Vec<_>>>()?;
    let [proof, header, ..] = &frames[..] else {
        return Err("the response proves nothing".into());
    };
    let known = proving.check(proof, header, now_ms())?;
    Ok((known, Box::new(frames.into_iter().skip(1).map(Ok))))
}
