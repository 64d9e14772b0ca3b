//! How the agent comes and goes.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{
    agent::Agent,
    bpf,
    patience::{patience, wait_for},
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "lifecycle::sigterm_ends_it_and_leaves_nothing_in_the_kernel",
            sigterm,
        ),
        case(
            "lifecycle::even_a_killed_agent_leaves_nothing_in_the_kernel",
            sigkill,
        ),
    ]
}

fn sigterm() -> Result<()> {
    let mut agent = Agent::start("", None)?;
    let programs = programs(&agent)?;
    let socket = agent.socket();
    agent.stop()?;
    ensure!(!socket.exists(), "its socket is still at {}", socket.display());
    gone(&programs)
}

fn sigkill() -> Result<()> {
    let mut agent = Agent::start("", None)?;
    let programs = programs(&agent)?;
    agent.daemon().kill()?;
    gone(&programs)
}

fn programs(agent: &Agent) -> Result<Vec<u32>> {
    let programs = bpf::programs_of(agent.pid())?;
    ensure!(!programs.is_empty(), "the agent holds no kernel program");
    for program in &programs {
        ensure!(
            bpf::is_loaded(*program)?,
            "program {program} is held but not loaded"
        );
    }
    Ok(programs)
}

/// The kernel frees a program some time after its last user has gone.
fn gone(programs: &[u32]) -> Result<()> {
    wait_for(
        "the kernel to be rid of the agent's programs",
        patience(10),
        || {
            for program in programs {
                if bpf::is_loaded(*program)? {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        },
    )
}
