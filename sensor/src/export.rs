//! Where it goes: to readers on this host ([`local`]) and to the collector ([`uplink`]).

mod backoff;
pub mod choice;
pub mod convert;
mod encode;
mod entry;
pub mod format;
pub mod hub;
mod knowledge;
pub mod local;
pub mod output;
mod record;
pub mod spool;
pub mod uplink;
pub mod users;

pub use choice::Choice;
pub(crate) use convert::kind_meant;
pub use convert::{Converter, escape};
pub use entry::{Entry, Loss};
pub use hub::Hub;
pub use local::{LocalError, LocalServer, LocalService, StatusSource};
pub use output::{OutputError, OutputMonitor, Outputs};
pub use spool::Spool;
pub use uplink::{Uplink, UplinkConfig, UplinkError, UplinkMonitor};
pub use users::Users;
