//! The connection, whose local port is known before it is made: the agent mutes what the kernel reports about its
//! own delivery, and would otherwise report the report.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tonic::transport::{Channel, Endpoint, Uri};

/// How long the name's look-up and the handshake may take, together.
const CONNECT: Duration = Duration::from_secs(5);

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

/// Connects to the collector. TLS will wrap the stream that `reach` gives.
pub(super) async fn connect(
    uri: Uri,
    on_connecting: OnConnecting,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |uri: Uri| {
        let on_connecting = Arc::clone(&on_connecting);
        async move {
            let slow = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}"));
            let stream = timeout(CONNECT, reach(&uri, &on_connecting))
                .await
                .unwrap_or(Err(slow))?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from(uri)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// Tries each address of the collector's name.
async fn reach(uri: &Uri, on_connecting: &OnConnecting) -> io::Result<TcpStream> {
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for remote in lookup_host((host, uri.port_u16().unwrap_or_default())).await? {
        match attempt(remote, on_connecting).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_port_is_told_before_it_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let remote = listener.local_addr().expect("has an address");
        let told = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&told);
        let on_connecting: OnConnecting = Arc::new(move |link| ear.lock().expect("whole").push(link));
        let uri = format!("http://{remote}").parse().expect("an address");
        let _stream = reach(&uri, &on_connecting).await.expect("connects");
        let (_, peer) = listener.accept().await.expect("accepts");
        assert_eq!(
            *told.lock().expect("whole"),
            [Link {
                local_port: peer.port(),
                remote
            }]
        );
    }
}
