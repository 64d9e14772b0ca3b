//! Programs on the root cgroup: whoever may load programs can also take them off there (`BPF_LINK_DETACH`), as of no other hook, and the agent's link
//! lives on without a word. So it is looked whether they are where they were attached, and what is not is attached again.

use std::fs::File;

use aya::Ebpf;
use sensor_common::Signal;

use super::{
    cgroup,
    ladder::{Cgroup, Hook},
    loader::{HookStatus, join},
};

/// A program of ours, and where it belongs.
#[derive(Clone, Copy, Debug)]
struct Kept {
    program: &'static str,
    hook: Hook,
    kind: u32,
    id: u32,
    signal: Signal,
}

/// A program that somebody had taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOff {
    /// What it reports.
    pub signal: Signal,
    /// Its name.
    pub program: &'static str,
    /// Whether it is attached again; if not, the kernel's words. It is tried again, and not told of again.
    pub put_back: Result<(), String>,
}

/// Looks after them.
#[derive(Debug)]
pub(super) struct Keeping {
    root: Option<File>,
    kept: Vec<Kept>,
    /// Those that could not be put back.
    missing: Vec<&'static str>,
}

impl Keeping {
    /// Of what is attached by now.
    pub(super) fn of(ebpf: &Ebpf, hooks: &[HookStatus]) -> Self {
        let rungs = hooks
            .iter()
            .filter_map(|status| Some((status.signal, status.rung?)));
        let parts = rungs.flat_map(|(signal, rung)| rung.parts().map(move |part| (signal, part)));
        let mut kept: Vec<Kept> = Vec::new();
        for (signal, part) in parts {
            let Some(kind) = kind(part.hook) else { continue };
            let id = ebpf
                .program(part.program)
                .and_then(|program| Some(program.info().ok()?.id()));
            if let Some(id) = id
                && kept.iter().all(|other| other.id != id)
            {
                kept.push(Kept {
                    program: part.program,
                    hook: part.hook,
                    kind,
                    id,
                    signal,
                });
            }
        }
        Self {
            root: cgroup::root().ok(),
            kept,
            missing: Vec::new(),
        }
    }

    /// Puts back what was taken off since this was asked last. A few system calls.
    pub(super) fn look(&mut self, ebpf: &mut Ebpf) -> Vec<TakenOff> {
        let Some(root) = &self.root else { return Vec::new() };
        let mut taken = Vec::new();
        for kept in &self.kept {
            // Where the kernel does not tell, nothing is known to be wrong.
            if cgroup::has(root, kept.kind, kept.id).unwrap_or(true) {
                continue;
            }
            let put_back = match ebpf.program_mut(kept.program) {
                Some(program) => join(program, kept.hook),
                None => Err("the program is gone".to_owned()),
            };
            let was_missing = self.missing.contains(&kept.program);
            match (&put_back, was_missing) {
                (Ok(()), true) => self.missing.retain(|name| *name != kept.program),
                (Err(_), false) => self.missing.push(kept.program),
                _ => {}
            }
            if !was_missing {
                taken.push(TakenOff {
                    signal: kept.signal,
                    program: kept.program,
                    put_back,
                });
            }
        }
        taken
    }
}

/// How the kernel calls a hook of cgroups.
fn kind(hook: Hook) -> Option<u32> {
    let Hook::Cgroup(hook) = hook else { return None };
    Some(match hook {
        Cgroup::Ingress => cgroup::INGRESS,
        Cgroup::Egress => cgroup::EGRESS,
        Cgroup::PostBind4 => cgroup::POST_BIND4,
        Cgroup::PostBind6 => cgroup::POST_BIND6,
        Cgroup::Sysctl => cgroup::SYSCTL,
    })
}
