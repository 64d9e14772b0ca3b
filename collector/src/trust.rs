//! Who may come, and what they may do.
//!
//! Whoever connects comes through the [`door`]: TLS 1.3 with a certificate of the [`authority`], or a stranger with nothing, who has
//! half a minute to enrol. From there on they are a [`peer`](Peer), and [`access`] says for each call who may make it. Tokens,
//! certificates and revocations are in the [`register`], a database of its own (`trust.db`), and so is the [`audit`]: what was done
//! and the line that says so are one transaction.
//!
//! Invariants: a token is good once; what is revoked is refused at the next handshake and cut off where it is connected; keys lie in
//! files of mode 0600; whoever has not shown a certificate holds [`lobby::STRANGERS`] connections at most, all together.

pub mod access;
pub mod audit;
pub mod authority;
pub mod database;
pub mod door;
pub mod lobby;
mod peer;
pub mod register;
mod renewal;
pub mod revocations;
pub mod service;
mod socket;
pub mod tls;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

pub use access::AccessLayer;
pub use authority::{Authority, AuthorityError};
pub use database::{Database, DatabaseError};
pub use lobby::Lobby;
pub use peer::Peer;
pub use register::Register;
pub use renewal::keep_fresh;
pub use revocations::Revocations;
pub use service::TrustService;
pub use socket::{Owners, SOCKET, SocketError, admin_socket};

/// How long certificates are valid, where nobody says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Who may connect, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Everybody on this host, without TLS. They may deliver and read; nobody may ask anything of a host.
    #[default]
    Insecure,
    /// Those with a certificate, over TLS.
    Tls(TlsConfig),
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Names and addresses under which the collector is found, for its certificate. Those of this host and the address that it listens
    /// on are added.
    pub names: Vec<String>,
    /// How long certificates are valid: the collector's own and those that it gives.
    pub lifetime: Duration,
    /// An operator's own authority; `None`: the one in the data directory.
    pub own: Option<OwnFiles>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            lifetime: LIFETIME,
            own: None,
        }
    }
}

/// Files of an operator's own, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFiles {
    /// Certificates of those who are trusted. The certificate below must be of one of them.
    pub authority: PathBuf,
    /// The key of the first of them, to give certificates with; without it nobody can enrol here.
    pub authority_key: Option<PathBuf>,
    /// The certificate of this collector, with others between it and the authority behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why it cannot be told who may come.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum TrustError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error(
        "{0} is reached by others than this host, and without TLS anybody could come: leave out --insecure, or listen on loopback"
    )]
    Exposed(SocketAddr),
}

/// All that is needed to tell who somebody is.
#[derive(Clone, Debug)]
pub struct Trusting {
    /// Tokens, certificates and the audit.
    pub register: Register,
    /// Who is let in no more.
    pub revocations: Revocations,
    /// Who is connected.
    pub lobby: Lobby,
    /// Who gives certificates; `None` where nobody can.
    pub authority: Option<Arc<Authority>>,
    /// The certificate that is shown; `None` without TLS.
    pub shown: Option<Arc<tls::Shown>>,
    /// Whose certificates are accepted; `None` without TLS.
    pub roots: Option<Arc<tls::Roots>>,
    /// How the certificate that is shown comes about.
    pub config: Arc<TlsConfig>,
    /// The address that is listened on.
    pub listen: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Trusting {
    /// Sets up what `trust` asks for, with what is in the data directory `data`, which must be there.
    ///
    /// # Errors
    /// If a file cannot be used, or the address is exposed without TLS.
    pub fn open(data: &Path, trust: &Trust, listen: SocketAddr) -> Result<Self, TrustError> {
        let database = Database::open(data)?;
        let register = Register::new(database);
        let revocations = register.revocations()?;
        let mut trusting = Self {
            register,
            revocations,
            lobby: Lobby::default(),
            authority: None,
            shown: None,
            roots: None,
            config: Arc::default(),
            listen,
            tls: None,
        };
        match trust {
            Trust::Insecure if !listen.ip().is_loopback() => return Err(TrustError::Exposed(listen)),
            Trust::Insecure => {}
            Trust::Tls(config) => trusting.secure(data, config)?,
        }
        Ok(trusting)
    }

    fn secure(&mut self, data: &Path, config: &TlsConfig) -> Result<(), TrustError> {
        let authority = match &config.own {
            None => Some(Authority::open(data)?),
            Some(OwnFiles {
                authority,
                authority_key: Some(key),
                ..
            }) => Some(Authority::load(authority, key)?),
            Some(_) => None,
        };
        self.authority = authority.map(Arc::new);
        let roots = match (&config.own, &self.authority) {
            (Some(own), _) => authority::certificates(&own.authority)?,
            (None, Some(authority)) => vec![authority.der()],
            (None, None) => Vec::new(),
        };
        let key = renewal::certificate(self.authority.as_deref(), config, self.listen)?;
        let shown = Arc::new(tls::Shown::new(key));
        let roots = Arc::new(tls::Roots::new(roots).map_err(TrustError::Tls)?);
        let server = tls::config(Arc::clone(&roots), Arc::clone(&shown), self.revocations.clone());
        self.roots = Some(roots);
        self.tls = Some(Arc::new(server.map_err(TrustError::Tls)?));
        self.shown = Some(shown);
        self.config = Arc::new(config.clone());
        Ok(())
    }
}

/// A value that is replaced now and then, and read often.
#[derive(Debug)]
struct Latest<T>(RwLock<T>);

impl<T: Clone> Latest<T> {
    fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    fn get(&self) -> T {
        self.0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    }
}
