//! The kernel's layout, resolved once before the programs are loaded.

use std::collections::HashMap;

use sensor_common::{
    Features, Layout,
    call::{LOCKDOWN_REASONS, Reasons},
    layout::{ABSENT, FIELDS, Field, Loads, URING_OPCODE_SECOND, URING_REQUEST_FIRST, URING_REQUEST_SECOND},
};
use zerocopy::{FromBytes, IntoBytes};

use super::btf::{Btf, BtfError, Kind};
use crate::preflight;

/// Why the kernel programs cannot be fitted to this kernel.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// There is no type information to be had.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// Fields that cannot be done without.
    #[error("this kernel lacks fields that the capture needs: {}; please report this with the output of `uname -a`", .0.join(", "))]
    Missing(Vec<String>),
}

/// What the kernel programs need to know, and what their loader does.
#[derive(Debug)]
pub struct Resolved {
    /// Offsets of fields.
    pub layout: Layout,
    /// What the kernel offers.
    pub features: Features,
    /// What the kernel's lockdown calls things.
    pub reasons: Reasons,
    /// What stays invisible because this kernel lacks a field.
    pub blind_spots: Vec<&'static str>,
    /// Ids of hooks, by kind and name; what the kernel does not have is not here.
    pub hook_ids: HashMap<(Kind, String), u32>,
}

const LOADS: &str = "kernel_read_file_id";
const REASONS: &str = "lockdown_reason";
const RENAME: &str = "bpf_lsm_path_rename";
const URING: &str = "btf_trace_io_uring_submit_sqe";
const SETXATTR: &str = "bpf_lsm_inode_setxattr";

/// Resolves every field of the table and every hook in `hooks` against the running kernel.
///
/// `cgroup_controller` is the v1 controller whose hierarchy names cgroups, `None` for the v2 hierarchy.
///
/// # Errors
/// If there is no BTF, or a field is missing that cannot be done without.
pub fn resolve(hooks: &[(Kind, &str)], cgroup_controller: Option<&str>) -> Result<Resolved, LayoutError> {
    resolve_in(&Btf::of_kernel()?, hooks, cgroup_controller)
}

fn resolve_in(
    btf: &Btf,
    hooks: &[(Kind, &str)],
    cgroup_controller: Option<&str>,
) -> Result<Resolved, LayoutError> {
    let mut names: Vec<(Kind, &str)> = hooks.to_vec();
    names.extend(
        FIELDS
            .iter()
            .flat_map(|field| field.paths)
            .map(|(kind, _)| (Kind::Struct, *kind)),
    );
    names.extend([
        (Kind::Enum, "bpf_func_id"),
        (Kind::Enum, "cgroup_subsys_id"),
        (Kind::Enum, LOADS),
        (Kind::Enum, REASONS),
        (Kind::Func, RENAME),
        (Kind::Func, SETXATTR),
        (Kind::Typedef, URING),
    ]);
    let ids = btf.find(&names);

    let (layout, blind_spots) = fields(btf, &ids)?;
    let hook_ids: HashMap<_, _> = ids
        .iter()
        .filter(|((kind, _), _)| matches!(kind, Kind::Func | Kind::Typedef))
        .map(|(name, id)| (name.clone(), *id))
        .collect();
    Ok(Resolved {
        features: features(btf, &ids, cgroup_controller),
        reasons: reasons(btf, &ids),
        layout,
        blind_spots,
        hook_ids,
    })
}

fn fields(btf: &Btf, ids: &HashMap<(Kind, String), u32>) -> Result<(Layout, Vec<&'static str>), LayoutError> {
    let mut missing = Vec::new();
    let mut blind_spots = Vec::new();
    let offsets: Vec<u32> = FIELDS
        .iter()
        .map(|field| {
            let offset = offset_of(btf, ids, field);
            if offset.is_none() {
                match field.blind_spot {
                    // Several fields may be for the same thing.
                    Some(blind_spot) if blind_spots.contains(&blind_spot) => {}
                    Some(blind_spot) => blind_spots.push(blind_spot),
                    None => missing.push(format!("{}.{}", field.paths[0].0, field.paths[0].1)),
                }
            }
            offset.unwrap_or(ABSENT)
        })
        .collect();
    if !missing.is_empty() {
        return Err(LayoutError::Missing(missing));
    }
    let layout = Layout::read_from_bytes(offsets.as_bytes()).unwrap_or(Layout::UNKNOWN);
    Ok((layout, blind_spots))
}

fn offset_of(btf: &Btf, ids: &HashMap<(Kind, String), u32>, field: &Field) -> Option<u32> {
    field
        .paths
        .iter()
        .find_map(|(kind, path)| btf.offset(*ids.get(&(Kind::Struct, (*kind).to_owned()))?, path))
}

/// Since this version tracepoints no longer keep the scheduler out while their programs run.
const PREEMPTED_SINCE: (u32, u32) = (7, 0);

fn features(btf: &Btf, ids: &HashMap<(Kind, String), u32>, cgroup_controller: Option<&str>) -> Features {
    let id = |kind, name: &str| ids.get(&(kind, name.to_owned())).copied();
    let helpers = id(Kind::Enum, "bpf_func_id");
    let helper = |name: &str| {
        helpers
            .and_then(|helpers| btf.enumerator(helpers, name))
            .is_some()
    };
    let controller = cgroup_controller
        .and_then(|name| btf.enumerator(id(Kind::Enum, "cgroup_subsys_id")?, &format!("{name}_cgrp_id")));
    let arguments = |function: &str| btf.arguments(id(Kind::Func, function)?);
    let accept = arguments("inet_csk_accept");
    let loads = |name: &str| {
        let number = id(Kind::Enum, LOADS).and_then(|names| btf.enumerator(names, name));
        number.unwrap_or(ABSENT)
    };
    Features {
        current_task_btf: helper("BPF_FUNC_get_current_task_btf").into(),
        task_registers: helper("BPF_FUNC_task_pt_regs").into(),
        preempted: (preflight::version(&preflight::release()) >= PREEMPTED_SINCE).into(),
        cgroup_subsys: controller.unwrap_or(ABSENT),
        accept_arguments: accept.map_or(Features::LEAST.accept_arguments, |count| count as u32),
        rename_flags: arguments(RENAME).is_some_and(|count| count > 4).into(),
        xattr_dentry: arguments(SETXATTR).is_some_and(|count| count > 5).into(),
        uring_submission: uring_submission(id(Kind::Typedef, URING).and_then(|id| btf.arguments(id))),
        loads: Loads {
            module: loads("READING_MODULE"),
            module_compressed: loads("READING_MODULE_COMPRESSED"),
            kexec_image: loads("READING_KEXEC_IMAGE"),
            kexec_initramfs: loads("READING_KEXEC_INITRAMFS"),
        },
        ..Features::LEAST
    }
}

fn reasons(btf: &Btf, ids: &HashMap<(Kind, String), u32>) -> Reasons {
    let mut reasons = Reasons::default();
    let Some(names) = ids.get(&(Kind::Enum, REASONS.to_owned())) else {
        return reasons;
    };
    for (number, name) in LOCKDOWN_REASONS {
        let place = btf.enumerator(*names, name).map(|place| place as usize);
        if let Some(reason) = place.and_then(|place| reasons.get_mut(place)) {
            *reason = *number as u8;
        }
    }
    reasons
}

/// By the number of arguments, the tracepoint's own first one included.
fn uring_submission(arguments: Option<usize>) -> u32 {
    match arguments {
        Some(..=3) => URING_REQUEST_FIRST,
        Some(8) => URING_REQUEST_SECOND,
        _ => URING_OPCODE_SECOND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_struct_have_the_same_order() {
        assert_eq!(FIELDS.len() * size_of::<u32>(), size_of::<Layout>());
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let Ok(btf) = Btf::of_kernel() else { return };
        let resolved = resolve_in(&btf, &[(Kind::Typedef, "btf_trace_sched_process_exec")], None).unwrap();
        assert!(
            resolved
                .hook_ids
                .contains_key(&(Kind::Typedef, "btf_trace_sched_process_exec".to_owned()))
        );
        assert_ne!(resolved.layout.task_tgid, ABSENT);
        assert_eq!(resolved.features.cgroup_subsys, ABSENT);
        // The first of them has never changed, nor has what means none.
        assert_eq!(resolved.reasons[..2], [0, 1]);
    }
}
