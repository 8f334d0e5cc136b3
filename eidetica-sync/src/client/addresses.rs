//! Chooses among the addresses of a peer: the one rule for every request.

use std::sync::Arc;

use eidetica_proto::{Address, SyncTransport};

use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::transport::manager::TransportManager;

/// Makes an attempt at each address of `peer` in order, until one does not fail in transport.
///
/// # Errors
/// Returns the error of the last attempt, or [`SyncError::NoAddress`] if there was none.
pub(crate) async fn try_in_order<T, F: Future<Output = Result<T, SyncError>>>(
    peer: &Peer,
    manager: &TransportManager,
    mut attempt: impl FnMut(Arc<dyn SyncTransport>, Address) -> F,
) -> Result<T, SyncError> {
    let mut result = Err(SyncError::NoAddress);
    for address in peer.addresses.iter().cloned() {
        result = match manager.transport_for(&address) {
            Ok(transport) => attempt(transport.clone(), address).await,
            Err(source) => Err(SyncError::Transport { address, source }),
        };
        // Any other error would be the same at another address of this peer.
        if !matches!(result, Err(SyncError::Transport { .. })) {
            break;
        }
    }
    result
}
