//! How the agent is, for `GetStatus`.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use sensor_common::Signal;
use sensor_proto::v1;

use crate::{
    capture::{Accounts, Capture, HookStatus},
    export::StatusSource,
    host::{Profile, Report},
    mute::Board,
    pipeline::Vitals,
    preflight,
    time::WallTime,
};

/// Everything a status is made of.
pub struct AgentStatus {
    accounts: Arc<Accounts>,
    vitals: Arc<Vitals>,
    board: Arc<Board>,
    profiles: Report,
    /// What does not change while the agent runs.
    fixed: v1::Status,
}

impl AgentStatus {
    /// The status of an agent that captures with `capture`.
    #[must_use]
    pub fn new(
        host: String,
        capture: &Capture,
        vitals: Arc<Vitals>,
        board: Arc<Board>,
        profiles: Report,
    ) -> Self {
        let (load, btf) = capture.load_times();
        let fixed = v1::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host,
            kernel: preflight::release(),
            started_ns: WallTime::now().0,
            blind_spots: capture.blind_spots().iter().map(ToString::to_string).collect(),
            hooks: capture.hooks().iter().map(hook).collect(),
            load_ns: load.as_nanos() as u64,
            btf_ns: btf.as_nanos() as u64,
            ..v1::Status::default()
        };
        Self {
            accounts: capture.accounts(),
            vitals,
            board,
            profiles,
            fixed,
        }
    }

    /// Signals that are captured on a lower rung than the best, or not at all.
    #[must_use]
    pub fn degraded(&self) -> Vec<&str> {
        let hooks = self.fixed.hooks.iter();
        hooks
            .filter(|hook| !hook.refused.is_empty() || hook.rung.is_empty())
            .map(|hook| &*hook.signal)
            .collect()
    }
}

impl AgentStatus {
    fn rules(&self) -> v1::RulesStatus {
        let [active, idle, faults] =
            [0, 1, 2].map(|index: usize| self.vitals.rules[index].load(Ordering::Relaxed));
        v1::RulesStatus { active, idle, faults }
    }

    fn mutes(&self) -> Vec<v1::Mute> {
        let muted = |signal| self.accounts.tally(signal).unwrap_or_default().muted;
        let mutes = self.board.muted(muted).into_iter();
        mutes
            .map(|mute| v1::Mute {
                kind: mute.kind.to_owned(),
                what: mute.what,
                events: mute.events,
            })
            .collect()
    }
}

impl StatusSource for AgentStatus {
    fn status(&self) -> v1::Status {
        let (rss_bytes, peak_rss_bytes) = memory();
        v1::Status {
            accounts: Signal::ALL
                .into_iter()
                .map(|signal| account(&self.accounts, signal))
                .collect(),
            processes: self.vitals.processes.load(Ordering::Relaxed),
            incidents: self.vitals.incidents.load(Ordering::Relaxed),
            late: self.vitals.late.load(Ordering::Relaxed),
            profiles: self.profiles.profiles().iter().map(profile).collect(),
            rules: Some(self.rules()),
            respond_mode: self.vitals.mode().to_string(),
            recursion_misses: self.accounts.recursion_misses(),
            mutes: self.mutes(),
            rss_bytes,
            peak_rss_bytes,
            ..self.fixed.clone()
        }
    }
}

fn hook(status: &HookStatus) -> v1::Hook {
    v1::Hook {
        signal: status.signal.name().to_owned(),
        rung: match status.rung {
            Some(rung) => rung.to_string(),
            None if status.off => "off".to_owned(),
            None => String::new(),
        },
        refused: status
            .refused
            .iter()
            .map(|(rung, reason)| v1::Refusal {
                rung: rung.to_string(),
                reason: reason.clone(),
            })
            .collect(),
        blind_spot: status
            .rung
            .map(|rung| rung.blind_spot.to_owned())
            .unwrap_or_default(),
    }
}

fn profile(profile: &Profile) -> v1::Profile {
    v1::Profile {
        workload: profile.workload.to_string(),
        state: profile.state().to_owned(),
        windows: profile.knowledge.windows,
        unstored: profile.knowledge.unstored,
    }
}

fn account(accounts: &Accounts, signal: Signal) -> v1::Account {
    let tally = accounts.tally(signal).unwrap_or_default();
    v1::Account {
        signal: signal.name().to_owned(),
        seen: tally.seen,
        delivered: tally.delivered,
        muted: tally.muted,
        aggregated: tally.aggregated,
        lost: tally.lost,
    }
}

/// Resident memory now and at its highest, in bytes; zero where `/proc` does not say.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or(0)
    };
    (kibibytes("VmRSS:") * 1024, kibibytes("VmHWM:") * 1024)
}
