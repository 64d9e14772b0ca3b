//! Who and what an event belongs to.

mod event;

pub use event::{
    Body, Credentials, Event, Exec, Exit, Flow, FlowTotals, Image, Namespaces, Process, ProcessId, Thread,
    Workload,
};
