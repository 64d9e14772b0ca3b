//! A user locked out, and let in again.

use rustix::process::Signal;

use super::{Came, Means, failed, kernel::Kernel, reason};
use crate::respond::{
    Guard,
    kill::{Held, Missed, WAIT},
    order::Order,
    revoke::{Accounts, Done, RevokeError, Revoked, sessions},
};

/// Looks for what the user still runs: what was forked meanwhile is found by the next.
const ROUNDS: usize = 16;

/// Nothing of that login may be run from now on, the account is locked, and what runs of it is ended.
pub(super) fn revoke(uid: u32, order: &Order, means: &Means, guard: &Guard, kernel: &mut Kernel) -> Came {
    let accounts = Accounts::new("/".as_ref(), means.need_state()?, []);
    let mut detail = match accounts.lock(uid, &reason(order)) {
        Ok((revoked, Done::Now)) => format!("locked: {}", names(&revoked)),
        Ok((revoked, Done::Before)) => format!("was locked before: {}", names(&revoked)),
        // Whoever logs in again runs nothing, whoever keeps the account.
        Err(error @ RevokeError::NotLocal { .. }) => error.to_string(),
        Err(error) => return Err(failed(error)),
    };
    if let Err(error) = kernel.refuse_user(uid, order, guard) {
        detail.push_str(&format!(
            "; what is left of the login could still run programs: {error}"
        ));
    }
    let (ended, spared) = end_sessions(uid, means, guard);
    detail.push_str(&format!("; {ended} processes ended"));
    for why in spared {
        detail.push_str(&format!("; {why}"));
    }
    Ok(detail)
}

pub(super) fn reinstate(uid: u32, means: &Means, kernel: &mut Kernel) -> Came {
    let was_refused = kernel.let_user(uid).map_err(failed)?;
    let accounts = Accounts::new("/".as_ref(), means.need_state()?, []);
    match accounts.restore(uid) {
        Ok((revoked, _)) => Ok(format!("as before: {}", names(&revoked))),
        Err(RevokeError::NotRevoked(_)) if was_refused => Ok(
            "what logs in as them may run programs again; the account was not locked by sensor".to_owned(),
        ),
        Err(error) => Err(failed(error)),
    }
}

fn names(revoked: &Revoked) -> String {
    let names: Vec<&str> = revoked.accounts.iter().map(|account| &*account.name).collect();
    names.join(", ")
}

/// How many processes were ended, and why others were not.
fn end_sessions(uid: u32, means: &Means, guard: &Guard) -> (usize, Vec<String>) {
    let mut ended = 0;
    let mut spared = Vec::new();
    for _ in 0..ROUNDS {
        spared.clear();
        let mut found = false;
        for id in sessions(uid, means.births.as_deref()).processes {
            let held = Held::new(id, means.births.as_deref(), |executable| {
                guard.check_session(uid, id.tgid, executable)
            });
            match held.and_then(|held| held.signal(Signal::KILL).map(|()| held)) {
                Ok(held) => {
                    held.ended_within(WAIT);
                    ended += 1;
                    found = true;
                }
                Err(Missed::Gone(_)) => {}
                Err(Missed::Refused(refusal)) => {
                    spared.push(format!("process {} was spared: {refusal}", id.tgid));
                }
                Err(Missed::Failed(error)) => spared.push(format!("process {}: {error}", id.tgid)),
            }
        }
        if !found {
            break;
        }
    }
    spared.truncate(8);
    (ended, spared)
}
