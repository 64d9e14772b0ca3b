//! Who and what an event belongs to.
//!
//! A decoded record goes in, an [`Event`] comes out: with the process as it is at that moment, its parent,
//! its workload, and people's time. Invariants:
//! - A process is `(process id, start time)`; two processes that had the same process id are never mixed.
//! - Everything is bounded ([`Limits`]); what was pushed out is read anew when it is heard of again.
//! - `/proc` is read at the start and, after that, only for processes that no event told of and for arguments that
//!   the kernel could not copy. The usual event costs two look-ups and the allocations of its own result.
//! - No clock is read: times come from the records and from [`WallClock`].

mod attribution;
mod cgroup;
mod clock;
mod credential;
pub mod dns;
mod event;
pub mod file;
mod hierarchy;
mod images;
mod names;
pub mod proc;
mod profiles;
mod session;
mod snapshot;
pub mod tls;
mod tree;
mod workload;

pub use attribution::{Attributed, Host};
pub use cgroup::Cgroups;
pub use clock::WallClock;
pub use credential::{CredentialChange, How, capability_names};
pub use event::{
    Body, Credentials, DatagramTotals, Event, Exec, Exit, FileId, Flow, FlowTotals, FoldSlot, Image,
    Namespaces, Operation, Process, ProcessId, Repeated, Sequence, Thread, Workload,
};
pub use hierarchy::{CgroupError, CgroupMount, Hierarchy};
pub use profiles::{Profile, Profiles, Profiling, Report, write_windows};
pub use session::{Session, Source};
pub use snapshot::{Listener, listeners};
pub use tree::{Ended, Facts, Limits, Tree};
