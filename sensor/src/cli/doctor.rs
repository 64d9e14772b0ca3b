//! `sensor doctor`: can this host be watched, how, and what stays invisible?

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use crate::{
    capture::{Capture, FlowTimes, HookStatus, Level, Options, RingSizes},
    enforce::{self, Ability},
    host::{CgroupError, CgroupMount},
    preflight::{self, Check, Verdict},
};

/// Arguments of `sensor doctor`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Look at nothing better than this kind of hook.
    #[arg(long, value_name = "KIND", default_value = "lsm")]
    max_rung: Level,
}

/// Looks at everything and prints it. Exit status 2 where something prevents capturing.
pub fn run(args: &Args) -> ExitCode {
    let mut checks = preflight::checks();
    let mount = CgroupMount::detect();
    checks.push(Check {
        name: "cgroups",
        verdict: cgroups(&mount),
    });
    let controller = mount.as_ref().ok().and_then(CgroupMount::controller);
    let hooks = if preflight::may_load_programs() {
        try_hooks(controller, args.max_rung)
    } else {
        Trial::NotAllowed
    };
    print!("{}", render(&preflight::release(), &checks, &hooks));
    let unfit = matches!(hooks, Trial::Failed(_)) || hooks.allowed() && checks.iter().any(Check::is_problem);
    if unfit {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

/// What came of attaching every hook for a moment.
enum Trial {
    Hooks {
        hooks: Vec<HookStatus>,
        abilities: Vec<Ability>,
        blind_spots: Vec<&'static str>,
        load: Duration,
        btf: Duration,
    },
    Failed(String),
    NotAllowed,
}

impl Trial {
    fn allowed(&self) -> bool {
        !matches!(self, Self::NotAllowed)
    }
}

fn cgroups(mount: &Result<CgroupMount, CgroupError>) -> Verdict {
    match mount {
        Ok(mount) => Verdict::Good(mount.to_string()),
        Err(error) => Verdict::Note(format!(
            "{error}; processes are not told apart by unit or container"
        )),
    }
}

fn try_hooks(cgroup_controller: Option<&str>, max_rung: Level) -> Trial {
    let options = Options {
        rings: RingSizes {
            critical: 4096,
            bulk: 4096,
        },
        watermark: u64::MAX,
        interval: Duration::from_secs(1),
        reorder_window: Duration::ZERO,
        cgroup_controller,
        sequences: true,
        calls: true,
        flows: FlowTimes {
            idle: Duration::MAX,
            active: Duration::MAX,
        },
        max_rung,
        agent_tgid: std::process::id(),
    };
    match Capture::start(&options) {
        Ok(capture) => {
            let (load, btf) = capture.load_times();
            Trial::Hooks {
                hooks: capture.hooks().to_vec(),
                abilities: enforce::try_all(),
                blind_spots: capture.blind_spots().to_vec(),
                load,
                btf,
            }
        }
        Err(error) => Trial::Failed(error.to_string()),
    }
}

fn render(release: &str, checks: &[Check], hooks: &Trial) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "sensor {} on Linux {release}\n", env!("CARGO_PKG_VERSION"));
    for check in checks {
        let (mark, text) = match &check.verdict {
            Verdict::Good(text) => ("ok", text.clone()),
            Verdict::Note(text) => ("note", text.clone()),
            Verdict::Unknown(text) => ("?", text.clone()),
            Verdict::Problem { what, remedy } => ("PROBLEM", format!("{what}; {remedy}")),
        };
        let _ = writeln!(out, "{mark:<8} {:<17} {text}", check.name);
    }
    out.push('\n');
    match hooks {
        Trial::Hooks {
            hooks,
            abilities,
            blind_spots,
            load,
            btf,
        } => {
            render_hooks(&mut out, hooks);
            for blind_spot in blind_spots {
                let _ = writeln!(
                    out,
                    "{:<8} {:<17} not visible on this kernel: {blind_spot}",
                    "note", "every event"
                );
            }
            let _ = writeln!(
                out,
                "\nloaded and attached in {} ms, {} ms of it for type information; detached again",
                load.as_millis(),
                btf.as_millis()
            );
            out.push_str("\nwhat the kernel would refuse when told to (docs/response.md)\n");
            render_abilities(&mut out, abilities);
        }
        Trial::Failed(error) => {
            let _ = writeln!(out, "PROBLEM  hooks             {error}");
        }
        Trial::NotAllowed => {
            out.push_str("?        hooks             not checked: attaching them takes root; run `sudo sensor doctor`\n");
        }
    }
    out
}

fn render_hooks(out: &mut String, hooks: &[HookStatus]) {
    for status in hooks.iter().filter(|status| !status.off) {
        let (mark, rung) = match &status.rung {
            Some(rung) => (
                if status.refused.is_empty() { "ok" } else { "note" },
                rung.to_string(),
            ),
            None => ("PROBLEM", "no hook: this signal is not captured".to_owned()),
        };
        let _ = writeln!(out, "{mark:<8} {:<17} {rung}", status.signal.name());
        for (rung, reason) in &status.refused {
            let _ = writeln!(out, "{:26} better, but refused: {rung}: {reason}", "");
        }
        if let Some(rung) = status.rung.filter(|rung| !rung.blind_spot.is_empty()) {
            let _ = writeln!(out, "{:26} not visible here: {}", "", rung.blind_spot);
        }
    }
}

fn render_abilities(out: &mut String, abilities: &[Ability]) {
    for ability in abilities {
        let (mark, how) = match (&ability.how, &ability.better) {
            (Ok(how), None) => ("ok", (*how).to_owned()),
            (Ok(how), Some(_)) => ("note", (*how).to_owned()),
            (Err(error), _) => ("note", format!("not here: {error}")),
        };
        let _ = writeln!(out, "{mark:<8} {:<17} {how}", ability.what);
        if let Some((way, reason)) = &ability.better {
            let _ = writeln!(out, "{:26} better, but refused: {way}: {reason}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_common::Signal;

    use super::*;
    use crate::{capture::ladder::rungs, enforce::EnforceError};

    #[test]
    fn every_refusal_and_blind_spot_is_shown() {
        let accept = rungs(Signal::Accept);
        let hooks = vec![
            HookStatus {
                signal: Signal::Accept,
                rung: Some(accept[1]),
                refused: vec![(accept[0], "load refused: Operation not permitted".to_owned())],
                off: false,
            },
            HookStatus {
                signal: Signal::Exec,
                rung: None,
                refused: Vec::new(),
                off: false,
            },
        ];
        let checks = [Check {
            name: "type information",
            verdict: Verdict::Problem {
                what: "there is none".to_owned(),
                remedy: "boot another kernel".to_owned(),
            },
        }];
        let trial = Trial::Hooks {
            hooks,
            abilities: vec![
                Ability {
                    what: "refuse programs",
                    how: Ok("ended before their first instruction"),
                    better: Some(("denied before they begin", "Operation not permitted".to_owned())),
                },
                Ability {
                    what: "refuse networks",
                    how: Err(EnforceError::Cgroup("there is no unified hierarchy".to_owned())),
                    better: None,
                },
            ],
            blind_spots: vec!["who logged in to start a process"],
            load: Duration::from_millis(200),
            btf: Duration::from_millis(12),
        };
        insta::assert_snapshot!(render("6.1.0", &checks, &trial), @r"
        sensor 0.1.0 on Linux 6.1.0

        PROBLEM  type information  there is none; boot another kernel

        note     accept            tp_btf/inet_sock_set_state
                                   better, but refused: fexit/inet_csk_accept: load refused: Operation not permitted
                                   not visible here: which of the processes that share a listening socket accepted, until it closes the connection
        PROBLEM  exec              no hook: this signal is not captured
        note     every event       not visible on this kernel: who logged in to start a process

        loaded and attached in 200 ms, 12 ms of it for type information; detached again

        what the kernel would refuse when told to (docs/response.md)
        note     refuse programs   ended before their first instruction
                                   better, but refused: denied before they begin: Operation not permitted
        note     refuse networks   not here: verdicts on the network need a cgroup (v2): there is no unified hierarchy
        ");
    }
}
