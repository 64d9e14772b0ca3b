//! The contract between the kernel programs and the agent: what a record in a ring looks like, which
//! maps there are and what their keys mean.
//!
//! Everything here is `#[repr(C)]` without padding, so that both sides read the same bytes; the agent
//! reads them in place through [`zerocopy`]. Multi-byte fields are in the host's byte order, unless a
//! field says otherwise. A record in a ring is a [`Header`], then the body of its [`Signal`], then, for
//! the signals that have one, a tail of variable length.
#![no_std]

pub mod account;
pub mod call;
pub mod context;
pub mod credential;
pub mod filter;
pub mod fold;
pub mod layout;
pub mod record;
pub mod sequence;
pub mod settings;
pub mod signal;
pub mod verdict;

pub use account::Account;
pub use call::CallRule;
pub use credential::Credential;
pub use filter::{FileKey, MuteKey, MuteKind};
pub use fold::Fold;
pub use layout::{Features, Layout};
pub use record::{
    Accept, Bind, Connect, Dns, Exec, Exit, FlowClose, Fork, Header, Identity, Listen, Operation, Sequence,
    TlsHello, Tuple, UNSET_ID, UdpFlow,
};
pub use settings::Settings;
pub use signal::{Class, Signal};

/// Most rings that one class may have; CPUs beyond that many share them.
pub const RINGS_PER_CLASS: usize = 16;
