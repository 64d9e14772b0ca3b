//! Where it goes: to readers on this host ([`local`]) and to the collector ([`uplink`]).

pub mod convert;
mod encode;
mod entry;
pub mod hub;
mod knowledge;
pub mod local;
mod record;
pub mod spool;
pub mod uplink;
pub mod users;

pub(crate) use convert::kind_meant;
pub use convert::{Converter, escape};
pub use entry::{Entry, Loss};
pub use hub::Hub;
pub use local::{LocalError, LocalServer, LocalService, StatusSource};
pub use spool::{MemorySpool, Spool};
pub use uplink::{Uplink, UplinkConfig, UplinkError, UplinkMonitor};
pub use users::Users;
