//! An attacker that speaks HTTP/1.1 by hand.

use bytes::Bytes;
use eidetica_sync::proto::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Attack, Connections, Stall, Stood};
use crate::nodes::Transport;
use xtask_support::failed;

/// The head of an exchange.
fn head(body_bytes: usize, connection: &str) -> Vec<u8> {
    format!(
        "POST /eidetica/v2/exchange HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\
         content-type: application/vnd.eidetica.frames\r\ncontent-length: {body_bytes}\r\n\r\n"
    )
    .into_bytes()
}

/// Opens the connections and lets them stall.
pub(super) async fn begin(attack: Attack, address: &Address) -> Result<Connections, String> {
    let mut standing = Connections::new();
    for number in 0..attack.connections {
        let stall = attack.pace(number).await;
        let (attack, to) = (attack.clone(), address.value().to_owned());
        standing.spawn(stand(attack, to, stall));
    }
    Ok(standing)
}

async fn stand(attack: Attack, to: String, stall: Stall) -> Stood {
    let stall = match stall {
        Stall::Handshake => Stall::Nothing,
        stall => stall,
    };
    let bytes = match stall {
        Stall::Handshake | Stall::Nothing => Vec::new(),
        Stall::HalfHead => b"POST /eidetica/v2/exch".to_vec(),
        Stall::HalfBody | Stall::HalfFrame => {
            let frames = attack.bytes(Transport::Http, stall);
            // As much again is promised.
            [&head(2 * frames.len(), "keep-alive"), &frames[..]].concat()
        }
    };
    let closed = async move {
        let began = Instant::now();
        // Whatever goes wrong means that there is no connection.
        if let Ok(mut stream) = TcpStream::connect(to).await {
            let (mut from, mut to) = stream.split();
            let read = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await };
            let written = async {
                to.write_all(&bytes).await?;
                std::future::pending::<std::io::Result<u64>>().await
            };
            let _closed_or_reset = tokio::select! {
                read = read => read,
                failed = written => failed,
            };
        }
        Some(began.elapsed())
    };
    attack.stand(closed).await
}

/// Sends a whole request body, and returns the body of the answer.
pub(super) async fn post(address: &Address, body: &[u8]) -> Result<Bytes, String> {
    let mut stream = TcpStream::connect(address.value()).await.map_err(failed)?;
    let (mut from, mut to) = stream.split();
    let sent = async {
        to.write_all(&head(body.len(), "close")).await?;
        to.write_all(body).await
    };
    let mut answer = Vec::new();
    let received = from.read_to_end(&mut answer);
    // The server may answer and close before it has everything; then sending fails.
    let (_, _) = tokio::join!(sent, received);
    let begin = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    Ok(match begin {
        Some(at) => unchunked(&answer[at + 4..]).into(),
        None => Bytes::new(),
    })
}

/// Puts together a body that came in chunks, as far as it came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let digits = std::str::from_utf8(&rest[..line]).unwrap_or_default();
        let length = usize::from_str_radix(digits, 16).unwrap_or(0);
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + length..).unwrap_or_default();
    }
    body
}
