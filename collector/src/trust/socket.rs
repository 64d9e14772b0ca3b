//! The socket in the data directory, by which those who own it tell a running collector what to do: `collector enroll` and others. It
//! has mode 0600, and the kernel says who is at its other end.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{Peer, door::Guarded};

/// Its name.
pub const SOCKET: &str = "admin.sock";

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {}: {cause}; a path of 107 bytes is the longest that a socket can have", path.display())]
pub struct SocketError {
    path: PathBuf,
    cause: io::Error,
}

/// Connections of owners.
pub type Owners = ReceiverStream<io::Result<Guarded>>;

/// Connections of owners, until what is returned is dropped. Whoever holds the lock of the data directory may replace what is there.
///
/// # Errors
/// If it cannot be made.
pub fn admin_socket(data: &Path) -> Result<Owners, SocketError> {
    let path = data.join(SOCKET);
    let failed = |cause| SocketError {
        path: path.clone(),
        cause,
    };
    // It gets its name when it has its mode: nobody can come in between.
    let unready = path.with_extension("new");
    let _ = fs::remove_file(&unready);
    let listener = UnixListener::bind(&unready).map_err(failed)?;
    fs::set_permissions(&unready, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&unready, &path))
        .map_err(failed)?;
    let (ready, stream) = mpsc::channel(8);
    tokio::spawn(accept(listener, ready));
    Ok(ReceiverStream::new(stream))
}

async fn accept(listener: UnixListener, ready: mpsc::Sender<io::Result<Guarded>>) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let uid = stream.peer_cred().map(|who| who.uid());
        match uid {
            Ok(uid) if uid == 0 || uid == own => {
                let guarded = Guarded::new(Box::new(stream), Peer::Owner { uid }, None, None, None);
                let _ = ready.send(Ok(guarded)).await;
            }
            _ => tracing::warn!(
                "somebody who does not own the data directory came by its socket, and was refused"
            ),
        }
    }
}
