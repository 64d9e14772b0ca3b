//! Processes.

use std::borrow::Cow;

use sensor_proto::v1;

use super::{Field, Policy};
use crate::{
    export::escape,
    privacy::{
        pseudonym::{Kind, is_system},
        redact,
    },
};

impl Policy {
    /// Changes what of a process is not to leave.
    pub fn process(&self, process: &mut v1::Process) {
        if self.drops(Field::Argv) {
            drop_arguments(process);
        } else if self.redact {
            redact_arguments(process);
        }
        if self.drops(Field::Cwd) {
            process.cwd.clear();
            process.cwd_raw.clear();
        }
        self.rename(process);
    }

    fn rename(&self, process: &mut v1::Process) {
        let Some(names) = &self.pseudonyms else { return };
        for argument in &mut process.args {
            *argument = names.text(argument);
        }
        // To the byte, they would say what the texts do not.
        process.args_raw.clear();
        for (path, raw) in [
            (&mut process.executable, Some(&mut process.executable_raw)),
            (&mut process.cwd, Some(&mut process.cwd_raw)),
            (&mut process.parent_executable, None),
        ] {
            *path = names.path(path);
            if let Some(raw) = raw {
                raw.clear();
            }
        }
        if names.of(Kind::Users) {
            if !process.user.is_empty() && !is_system(process.uid) {
                for argument in &mut process.args {
                    *argument =
                        super::sentences::replace_word(argument, &process.user, &names.user(&process.user));
                }
                process.user = names.user(&process.user);
            }
            for id in [
                &mut process.uid,
                &mut process.gid,
                &mut process.euid,
                &mut process.egid,
            ] {
                *id = names.id(*id);
            }
            process.login_uid = process.login_uid.map(|id| names.id(id));
            process.cgroup = names.ids(&process.cgroup).into_owned();
            process.workload = names.ids(&process.workload).into_owned();
        }
    }
}

/// All but the first, the name by which the program was called; that they are missing is said.
fn drop_arguments(process: &mut v1::Process) {
    if process.args.len() > 1 {
        process.args.truncate(1);
        process.args_raw.truncate(1);
        process.args_truncated = true;
    }
}

fn redact_arguments(process: &mut v1::Process) {
    let args = joined(process);
    let Cow::Owned(shown) = redact::arguments(&args) else {
        return;
    };
    let shown = shown.strip_suffix(b"\0").unwrap_or(&shown);
    let arguments = shown.split(|byte| *byte == 0);
    process.args = arguments.clone().map(escape).collect();
    if !process.args_raw.is_empty() {
        process.args_raw = arguments.map(<[u8]>::to_vec).collect();
    }
}

/// The arguments as the kernel has them: each with a NUL after it.
pub(super) fn joined(process: &v1::Process) -> Vec<u8> {
    let put = |mut all: Vec<u8>, argument: &[u8]| {
        all.extend_from_slice(argument);
        all.push(0);
        all
    };
    match process.args_raw.as_slice() {
        [] => process
            .args
            .iter()
            .map(String::as_bytes)
            .fold(Vec::with_capacity(256), put),
        raw => raw.iter().map(Vec::as_slice).fold(Vec::with_capacity(256), put),
    }
}
