//! How connections come in: accepted, made to say who they are, and guarded from then on.
//!
//! A handshake has [`HANDSHAKE`] to be done, a stranger [`STRANGER`] to enrol, and whoever is known until their certificate ends; then,
//! or when the [`lobby`](super::lobby) says so, the connection fails, and with it every stream on it.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use sensor_trust::{Certificate, Identity, tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::{
    Peer, Trusting,
    lobby::{Cut, Entered},
};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a stranger may stay.
pub const STRANGER: Duration = Duration::from_secs(30);

/// How long to wait when the system has no descriptor for another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Connections that are ready and wait to be served.
const READY: usize = 64;

/// Refusals that are logged in each [`PERIOD`]; beyond, they are counted.
const LOGGED: u64 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Connections, ready to be served, until what is returned is dropped.
pub fn open(listener: TcpListener, trusting: Trusting) -> ReceiverStream<io::Result<Guarded>> {
    let (ready, stream) = mpsc::channel(READY);
    tokio::spawn(accept(listener, trusting, ready));
    ReceiverStream::new(stream)
}

async fn accept(listener: TcpListener, trusting: Trusting, ready: mpsc::Sender<io::Result<Guarded>>) {
    let log = Arc::new(Log::default());
    let mut period = tokio::time::interval(PERIOD);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = period.tick() => { log.turn(); continue }
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log.note(|| tracing::warn!("cannot accept a connection: {error}"));
                sleep(EXHAUSTED).await;
                continue;
            }
        };
        let (trusting, ready, log) = (trusting.clone(), ready.clone(), Arc::clone(&log));
        let (entered, cut) = trusting.lobby.enter(address.ip());
        tokio::spawn(async move {
            if let Some(guarded) = admit(stream, address, &trusting, entered, cut, &log).await {
                // Nobody to serve it: the collector stops.
                let _ = ready.send(Ok(guarded)).await;
            }
        });
    }
}

/// Finds out who it is; `None` if they have to go.
async fn admit(
    stream: TcpStream,
    address: SocketAddr,
    trusting: &Trusting,
    mut entered: Entered,
    mut cut: oneshot::Receiver<Cut>,
    log: &Log,
) -> Option<Guarded> {
    let _ = stream.set_nodelay(true);
    let Some(config) = &trusting.tls else {
        // Without TLS only this host comes, and nobody is told from anybody else.
        return Some(Guarded::new(
            Box::new(stream),
            Peer::Unchecked(address),
            None,
            None,
            None,
        ));
    };
    let done = tokio::select! {
        done = timeout(HANDSHAKE, TlsAcceptor::from(Arc::clone(config)).accept(stream)) => done,
        _ = &mut cut => {
            tracing::debug!(%address, "{}", Cut::Crowded);
            return None;
        }
    };
    let stream = match done {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let why = tls::within(&error).map_or_else(|| error.to_string(), tls::of_client);
            log.note(|| tracing::warn!(%address, "a connection is refused: {why}"));
            return None;
        }
        Err(_) => {
            log.note(|| tracing::debug!(%address, "a connection said nothing within {HANDSHAKE:?}"));
            return None;
        }
    };
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let certificate = shown.and_then(|der| Certificate::parse(der).ok());
    let known = certificate.and_then(|about| Some((about.identity.ok()?, about.ends, about.serial)));
    let Some((identity, ends, serial)) = known else {
        return Some(Guarded::new(
            Box::new(stream),
            Peer::Stranger(address),
            Some(STRANGER),
            Some(entered),
            Some(cut),
        ));
    };
    entered.introduce(identity.clone());
    // Whoever was revoked since the handshake looked was not in the lobby yet to be cut off.
    if trusting.revocations.cover(&identity, &serial) {
        return None;
    }
    let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
    let peer = Peer::Known { identity, address };
    Some(Guarded::new(
        Box::new(stream),
        peer,
        Some(left),
        Some(entered),
        Some(cut),
    ))
}

/// What a connection is made of.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that ends when its time is over, or when whoever is at its other end has to go.
pub struct Guarded {
    io: Box<dyn Io>,
    peer: Peer,
    ends: Option<Pin<Box<Sleep>>>,
    cut: Option<oneshot::Receiver<Cut>>,
    ended: Option<&'static str>,
    _entered: Option<Entered>,
}

impl Guarded {
    pub(super) fn new(
        io: Box<dyn Io>,
        peer: Peer,
        left: Option<Duration>,
        entered: Option<Entered>,
        cut: Option<oneshot::Receiver<Cut>>,
    ) -> Self {
        Self {
            io,
            peer,
            ends: left.map(|left| Box::pin(sleep(left))),
            cut,
            ended: None,
            _entered: entered,
        }
    }

    /// Whether it goes on.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.ended.is_none() {
            self.ended = self.reason_to_end(context);
            if let Some(why) = self.ended {
                match self.peer {
                    // They could fill a disk by coming again and again.
                    Peer::Stranger(_) => tracing::debug!(peer = %self.peer, "a connection is ended: {why}"),
                    _ => tracing::info!(peer = %self.peer, "a connection is ended: {why}"),
                }
            }
        }
        match self.ended {
            Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
            None => Ok(()),
        }
    }

    fn reason_to_end(&mut self, context: &mut Context<'_>) -> Option<&'static str> {
        if let Some(cut) = &mut self.cut
            && let Poll::Ready(why) = Pin::new(cut).poll(context)
        {
            self.cut = None;
            match why {
                Ok(Cut::Revoked) => return Some("its certificate is revoked"),
                Ok(Cut::Crowded | Cut::TooMany) => return Some("too many have come since"),
                Err(_) => {}
            }
        }
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(context).is_ready()
        {
            return Some(match self.peer {
                Peer::Stranger(_) => "it has not enrolled in time",
                _ => "its certificate has ended",
            });
        }
        None
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guarded")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Connected for Guarded {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Strangers must not fill a disk by being refused.
#[derive(Debug, Default)]
struct Log(AtomicU64);

impl Log {
    fn note(&self, write: impl FnOnce()) {
        if self.0.fetch_add(1, Ordering::Relaxed) < LOGGED {
            write();
        }
    }

    fn turn(&self) {
        let more = self.0.swap(0, Ordering::Relaxed).saturating_sub(LOGGED);
        if more > 0 {
            tracing::warn!("{more} more connections were refused within {PERIOD:?}");
        }
    }
}

/// Whom somebody named in a message is.
pub(super) fn named(role: &str, name: &str) -> Result<Identity, tonic::Status> {
    let identity = || -> Result<Identity, sensor_trust::IdentityError> {
        Ok(Identity {
            role: role.parse()?,
            name: name.parse()?,
        })
    };
    identity().map_err(|error| tonic::Status::invalid_argument(error.to_string()))
}
