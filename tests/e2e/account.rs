//! What became of everything that the kernel saw.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use sensor_tests::{SIGNALS, stack::Stack};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("account::every_signal_is_accounted_for", every_signal),
        case("account::nothing_was_lost", || {
            Stack::shared()?.agent.nothing_lost()
        }),
    ]
}

fn every_signal() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    stream.fence()?;
    let status = stack.agent.status()?;
    let names: Vec<&str> = status
        .accounts
        .iter()
        .map(|account| account.signal.as_str())
        .collect();
    for signal in SIGNALS.iter().copied() {
        ensure!(names.contains(&signal), "no account of {signal}: {names:?}");
        let captured = status
            .hooks
            .iter()
            .any(|hook| hook.signal == signal && !hook.rung.is_empty());
        ensure!(captured, "{signal} is not captured: {:#?}", status.hooks);
    }
    for account in &status.accounts {
        let alive = !matches!(account.signal.as_str(), "exec" | "fork" | "exit") || account.delivered > 0;
        ensure!(alive, "nothing was delivered of {}", account.signal);
    }
    Ok(())
}
