//! An attacker that speaks HTTP/1.1 by hand.

use eidetica_sync::proto::Address;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Attack, Connections, Stall, Stood};
use crate::nodes::Transport;

/// The head of an exchange.
fn head(body_bytes: usize) -> Vec<u8> {
    format!(
        "POST /eidetica/v2/exchange HTTP/1.1\r\nhost: localhost\r\n\
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
    let bytes = match stall {
        Stall::Handshake | Stall::Nothing => Vec::new(),
        Stall::HalfHead => b"POST /eidetica/v2/exch".to_vec(),
        Stall::HalfBody | Stall::HalfFrame => {
            let frames = attack.bytes(Transport::Http, stall);
            // As much again is promised.
            [&head(2 * frames.len()), &frames[..]].concat()
        }
    };
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
}
