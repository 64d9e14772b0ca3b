//! Which hooks reported which signals while the tests ran: signal × kernel × rung, from what the agents under test said.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// The environment variable that names the file to which the tests write.
pub(crate) const VARIABLE: &str = "SENSOR_TEST_RUNGS";

/// The first word of the rung of signals that come from what a host records.
const HOST_RECORDS: &str = "audit,";

/// Kinds of hooks by signal, signals in the order in which agents name them.
#[derive(Default)]
pub(crate) struct Rungs {
    signals: Vec<String>,
    kinds: BTreeMap<String, BTreeSet<&'static str>>,
}

impl Rungs {
    /// Out of a log with `rungs SIGNAL=RUNG …`, one for each agent, to the end of a line; what else there is does not matter.
    pub(crate) fn read(log: &str) -> Self {
        let mut rungs = Self::default();
        let lines = log.lines().filter_map(|line| Some(line.split_once("rungs ")?.1));
        for (signal, rung) in lines
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.split_once('='))
        {
            if !rungs.signals.iter().any(|known| known == signal) {
                rungs.signals.push(signal.to_owned());
            }
            if let Some(kind) = kind(rung) {
                rungs.kinds.entry(signal.to_owned()).or_default().insert(kind);
            }
        }
        rungs
    }

    fn cell(&self, signal: &str) -> String {
        let Some(kinds) = self.kinds.get(signal) else {
            return "–".to_owned();
        };
        kinds.iter().copied().collect::<Vec<_>>().join(" ")
    }
}

/// What a rung is short for; the best sorts first. `None` for no rung.
fn kind(rung: &str) -> Option<&'static str> {
    // Where the agent itself looks.
    if rung == HOST_RECORDS {
        return Some("records");
    }
    let (kind, name) = rung.split_once('/')?;
    Some(match kind {
        "lsm" => "LSM",
        "fexit" => "fexit",
        "fentry" => "fentry",
        _ if name == "sys_exit" => "syscall",
        _ => "hook",
    })
}

/// Signals down, kernels across; in each cell the kinds of hooks that agents under test had it from. Empty if none said.
pub(crate) fn table(kernels: &[(String, Rungs)]) -> String {
    let Some((_, first)) = kernels.iter().find(|(_, rungs)| !rungs.signals.is_empty()) else {
        return String::new();
    };
    let width = first.signals.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{:width$}", "signal");
    for (kernel, _) in kernels {
        let _ = write!(text, "  {kernel:14}");
    }
    for signal in &first.signals {
        let _ = write!(text, "\n{signal:width$}");
        for (_, rungs) in kernels {
            let _ = write!(text, "  {:14}", rungs.cell(signal));
        }
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agents_said_becomes_a_table() {
        let log = "x\ntest a ... rungs exec=tp_btf/sched_process_exec file_open=lsm/file_open+path_mkdir dns=\n\
                   rungs exec=tp_btf/sched_process_exec file_open=tp_btf/sys_exit dns=off login=audit, wtmp\n";
        let kernels = [
            ("6.1".to_owned(), Rungs::read(log)),
            ("here".to_owned(), Rungs::read("")),
        ];
        assert_eq!(
            table(&kernels),
            "signal     6.1             here\n\
             exec       hook            –\n\
             file_open  LSM syscall     –\n\
             dns        –               –\n\
             login      records         –"
        );
        assert_eq!(table(&kernels[1..]), "");
    }
}
