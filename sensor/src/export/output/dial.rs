//! Connections to receivers, with TLS or without. The local port is told before it is used, so that the agent does not report its own
//! reports.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{OutputError, tls};
use crate::{
    config::Output,
    export::uplink::{Link, OnConnecting},
};

/// How long the name's look-up and the handshakes may take, together.
const CONNECT: Duration = Duration::from_secs(10);

/// Both ways of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection that is open.
pub(super) type Line = Pin<Box<dyn Stream>>;

/// Where a receiver is, and how it is reached.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// What follows the authority; "/" where nothing does.
    pub(super) path: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    on_connecting: OnConnecting,
}

impl Target {
    /// The target of an output, whose scheme has been checked.
    pub(super) fn new(config: &Output, on_connecting: &OnConnecting) -> Result<Self, OutputError> {
        let refuse = |problem: &str| OutputError::Url {
            url: config.url.clone(),
            problem: problem.to_owned(),
        };
        let uri: hyper::Uri = config.url.parse().map_err(|_| refuse("it is no address"))?;
        let host = uri.host().ok_or_else(|| refuse("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (is_tls, port) = match uri.scheme_str() {
            Some("https") => (true, Some(443)),
            Some("http") => (false, Some(80)),
            Some("tls") => (true, Some(6514)),
            _ => (false, None),
        };
        let port = uri.port_u16().or(port).ok_or_else(|| refuse("it has no port"))?;
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone()).map_err(|_| refuse("its host is no name"))?;
            Some((tls::config(&config.ca_file)?, name))
        } else {
            None
        };
        Ok(Self {
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host,
            port,
            tls,
            on_connecting: Arc::clone(on_connecting),
        })
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> io::Result<Line> {
        let slow = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {CONNECT:?}"),
            )
        };
        timeout(CONNECT, self.reach())
            .await
            .unwrap_or_else(|_| Err(slow()))
    }

    async fn reach(&self) -> io::Result<Line> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for remote in lookup_host((self.host.as_str(), self.port)).await? {
            match self.attempt(remote).await {
                Ok(stream) => return self.secure(stream).await,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Line> {
        match &self.tls {
            None => Ok(Box::pin(stream)),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Ok(Box::pin(connector.connect(name.clone(), stream).await?))
            }
        }
    }

    async fn attempt(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let (socket, any) = match remote {
            SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        socket.bind(SocketAddr::new(any, 0))?;
        (self.on_connecting)(Link {
            local_port: socket.local_addr()?.port(),
            remote,
        });
        let stream = socket.connect(remote).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
