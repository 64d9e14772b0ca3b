//! What this kernel would carry out, found by attaching every program for a moment. There is no verdict then, so nothing is refused to anybody.

use super::{
    EnforceError,
    programs::{Group, Programs},
};

/// A kind of verdict, and how it is carried out here.
#[derive(Debug)]
pub struct Ability {
    /// What can be refused.
    pub what: &'static str,
    /// How it is.
    pub how: Result<&'static str, EnforceError>,
    /// A better way, and why the kernel does not take it.
    pub better: Option<(&'static str, String)>,
}

/// Tries all kinds of verdicts.
#[must_use]
pub fn try_all() -> Vec<Ability> {
    let mut programs = Programs::new(None, None);
    Group::ALL
        .into_iter()
        .map(|group| {
            let result = programs.ensure(group);
            let (how, better) = in_words(group, &programs);
            Ability {
                what: group.what(),
                how: result.map(|()| how),
                better,
            }
        })
        .collect()
}

fn in_words(group: Group, programs: &Programs) -> (&'static str, Option<(&'static str, String)>) {
    match group {
        Group::Exec => match programs.denies_exec() {
            Some(Err(reason)) => (
                "ended before their first instruction",
                Some((
                    "denied before they begin (lsm/bprm_check_security)",
                    reason.to_owned(),
                )),
            ),
            _ => ("denied before they begin (lsm/bprm_check_security)", None),
        },
        Group::Network => (
            "programs of cgroups; connections that exist are cut as well",
            None,
        ),
        Group::Tree => ("the same, for a process and all that descends from it", None),
    }
}
