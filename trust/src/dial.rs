//! The way to a collector.
//!
//! The local port of a connection is known before it is made: the agent mutes what the kernel reports about its own delivery, and would
//! otherwise report the report. Credentials are read anew for each connection, so that what was enrolled or renewed meanwhile is in
//! use from the next one on. A channel is one connection: when that ends, so does the channel.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{CredentialsError, Fingerprint, credentials::Place, tls};

/// How long the name's look-up and the connection may take, together; and then TLS once more.
const CONNECT: Duration = Duration::from_secs(5);

/// Of that, the look-up: there must be time to connect to where the collector was before.
const LOOK_UP: Duration = Duration::from_secs(3);

/// A collector that is silent is asked whether it is there after this time, and given up after the next.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// A connection that is about to be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Port on this host, bound already. The address is not chosen yet.
    pub local_port: u16,
    /// The collector.
    pub remote: SocketAddr,
}

/// Called with each connection before it is attempted.
pub type OnConnecting = Arc<dyn Fn(Link) + Send + Sync>;

/// Where a collector is: `https://HOST:PORT`, or `http://HOST:PORT` without TLS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    host: Box<str>,
    port: u16,
    tls: bool,
}

/// It is not an address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{address}\" is not an address of a collector: {problem}; write https://HOST:PORT")]
pub struct AddressError {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Address {
    /// Whether it is encrypted, and both ends know who the other is.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls
    }

    /// The name or address of the host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        let refuse = |problem: &str| AddressError {
            address: address.to_owned(),
            problem: problem.into(),
        };
        let uri: Uri = address
            .parse()
            .map_err(|error: tonic::codegen::http::uri::InvalidUri| refuse(&error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse("it does not begin with https://")),
        };
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']');
        Ok(Self {
            text: address.into(),
            host: host.into(),
            port: uri.port_u16().ok_or_else(|| refuse("it has no port"))?,
            tls,
        })
    }
}

/// As whom to connect, and how far to trust the network.
#[derive(Clone, Debug)]
pub enum Security {
    /// As whom these credentials are of, over TLS. Without TLS to loopback only, or anywhere if `plain_anywhere` says so.
    Known {
        /// Where the credentials are.
        place: Place,
        /// Go without TLS over networks, too, where the address asks for it.
        plain_anywhere: bool,
    },
    /// As nobody yet, to a collector whose authority has this fingerprint. Never without TLS.
    Stranger(Fingerprint),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum DialError {
    #[error("{0}")]
    Reach(io::Error),
    #[error(
        "{0} is not on this host, and http:// is neither encrypted nor does it say who is who; use https://, or set uplink.insecure where the network can be trusted"
    )]
    Plain(SocketAddr),
    #[error("a token is for https://, not for {0}")]
    TokenWithoutTls(Address),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("key and certificate are of no use: {0}")]
    Unusable(rustls::Error),
    #[error("{0:?} cannot be the name of a server")]
    Name(Box<str>),
    #[error("{}", tls::of_collector(_0))]
    Tls(rustls::Error),
    #[error("it ended the connection at once; it may have too many of them")]
    Ended,
    #[error("it does not speak HTTP/2: {}", causes(_0))]
    Http(tonic::transport::Error),
}

/// Where a collector of this name was reached, and was who it should be: for when names cannot be looked up, as on a host that is isolated, and
/// for who must not take somebody's word for where it is.
static REACHED: Mutex<BTreeMap<Address, SocketAddr>> = Mutex::new(BTreeMap::new());

/// Where the collector was last reached by this process, if it was.
#[must_use]
pub fn reached(address: &Address) -> Option<SocketAddr> {
    let reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    reached.get(address).copied()
}

/// Connects.
///
/// # Errors
/// If the collector is not reached, or one of the two does not want the other.
pub async fn dial(
    address: &Address,
    security: &Security,
    on_connecting: &OnConnecting,
) -> Result<Channel, DialError> {
    let config = config(address, security)?;
    let plain_anywhere = matches!(
        security,
        Security::Known {
            plain_anywhere: true,
            ..
        }
    );
    let stream = in_time(reach(address, plain_anywhere, on_connecting)).await??;
    let remote = stream.peer_addr().map_err(DialError::Reach)?;
    let stream: Box<dyn Io> = match config {
        Some(config) => in_time(handshake(address, config, stream)).await??,
        None => Box::new(stream),
    };
    REACHED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(address.clone(), remote);
    let mut once = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.take();
        async move { stream.ok_or_else(|| io::Error::other("the connection has ended")) }
    });
    // The address is only there because HTTP wants one.
    let endpoint = Endpoint::from_static("http://collector.sensor")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(DialError::Http)
}

/// What a connection is made of.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

fn config(address: &Address, security: &Security) -> Result<Option<ClientConfig>, DialError> {
    Ok(match security {
        Security::Stranger(_) if !address.tls => return Err(DialError::TokenWithoutTls(address.clone())),
        Security::Stranger(authority) => Some(tls::stranger(*authority).map_err(DialError::Unusable)?),
        Security::Known { .. } if !address.tls => None,
        Security::Known { place, .. } => Some(tls::client(&place.load()?).map_err(DialError::Unusable)?),
    })
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, DialError> {
    let slow = |_| {
        DialError::Reach(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {CONNECT:?}"),
        ))
    };
    timeout(CONNECT, work).await.map_err(slow)
}

/// Does the handshake, and waits for what the collector says first: with TLS 1.3 a client is refused after it has been let in, as it
/// seems to it.
async fn handshake(
    address: &Address,
    config: ClientConfig,
    stream: TcpStream,
) -> Result<Box<dyn Io>, DialError> {
    let name = ServerName::try_from(&*address.host).map_err(|_| DialError::Name(address.host.clone()))?;
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name.to_owned(), stream).await.map_err(broken)?;
    if stream.fill_buf().await.map_err(broken)?.is_empty() {
        return Err(DialError::Ended);
    }
    Ok(Box::new(stream))
}

fn broken(error: io::Error) -> DialError {
    match tls::within(&error) {
        Some(error) => DialError::Tls(error.clone()),
        None => DialError::Reach(error),
    }
}

/// Tries each address of the collector's name.
async fn reach(
    address: &Address,
    plain_anywhere: bool,
    on_connecting: &OnConnecting,
) -> Result<TcpStream, DialError> {
    let none = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    let mut last = DialError::Reach(none);
    let looked_up = timeout(LOOK_UP, lookup_host((&*address.host, address.port))).await;
    let looked_up = looked_up.unwrap_or_else(|_| {
        let slow = format!("{} cannot be looked up within {LOOK_UP:?}", address.host);
        Err(io::Error::new(io::ErrorKind::TimedOut, slow))
    });
    let remotes: Vec<SocketAddr> = match (looked_up, reached(address)) {
        (Ok(remotes), reached) => {
            let remotes: Vec<SocketAddr> = remotes.collect();
            let reached = reached.filter(|reached| !remotes.contains(reached));
            remotes.iter().copied().chain(reached).collect()
        }
        (Err(_), Some(reached)) => vec![reached],
        (Err(error), None) => return Err(DialError::Reach(error)),
    };
    for remote in remotes {
        if !address.tls && !plain_anywhere && !remote.ip().is_loopback() {
            last = DialError::Plain(remote);
            continue;
        }
        match attempt(remote, on_connecting).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = DialError::Reach(error),
        }
    }
    Err(last)
}

async fn attempt(remote: SocketAddr, on_connecting: &OnConnecting) -> io::Result<TcpStream> {
    let (socket, any) = match remote {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    socket.bind(SocketAddr::new(any, 0))?;
    on_connecting(Link {
        local_port: socket.local_addr()?.port(),
        remote,
    });
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An error and what it came from: tonic's own text is only "transport error".
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert!("http://127.0.0.1:7443".parse::<Address>().is_ok());
        let v6: Address = "https://[::1]:7443".parse().unwrap();
        assert_eq!((v6.host(), v6.port, v6.is_secure()), ("::1", 7443, true));
        for (address, problem) in [
            ("127.0.0.1:7443", "does not begin"),
            ("ftp://a:1", "does not begin"),
            ("http://a", "no port"),
            ("http://a b:1", "invalid"),
        ] {
            let error = address.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("https://HOST:PORT"),
                "{error}"
            );
        }
    }

    fn known(plain_anywhere: bool) -> Security {
        Security::Known {
            place: Place::Enrolled("/nonexistent".into()),
            plain_anywhere,
        }
    }

    fn silent() -> OnConnecting {
        Arc::new(|_| {})
    }

    #[tokio::test]
    async fn the_port_is_told_before_it_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let on_connecting: OnConnecting = Arc::new(move |link| ear.lock().unwrap().push(link));
        let address = format!("http://{remote}").parse().unwrap();
        let _stream = reach(&address, false, &on_connecting).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        let link = Link {
            local_port: peer.port(),
            remote,
        };
        assert_eq!(*told.lock().unwrap(), [link]);
    }

    /// 192.0.2.0/24 is for documentation: nobody is there, and nobody is asked.
    #[tokio::test]
    async fn without_tls_it_stays_on_this_host() {
        let address = "http://192.0.2.1:7443".parse().unwrap();
        let error = dial(&address, &known(false), &silent()).await.unwrap_err();
        insta::assert_snapshot!(error, @"192.0.2.1:7443 is not on this host, and http:// is neither encrypted nor does it say who is who; use https://, or set uplink.insecure where the network can be trusted");
    }

    #[tokio::test]
    async fn who_has_not_enrolled_is_told_how() {
        let address = "https://127.0.0.1:1".parse().unwrap();
        let error = dial(&address, &known(true), &silent()).await.unwrap_err();
        insta::assert_snapshot!(error, @"nobody has enrolled here: there is no /nonexistent/identity.pem; use `sensor enroll` with a token of `collector enroll`");
        let stranger = Security::Stranger(Fingerprint::of(b"x"));
        let address = "http://127.0.0.1:1".parse().unwrap();
        let error = dial(&address, &stranger, &silent()).await.unwrap_err();
        insta::assert_snapshot!(error, @"a token is for https://, not for http://127.0.0.1:1");
    }
}
