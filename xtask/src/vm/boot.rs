//! One boot: start the emulator, keep what the machine says, read the verdict from it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    forge::Forger,
    kernel::{Kernel, Suite},
};
use crate::rungs::Rungs;

/// Longest that a machine may run. The tests have deadlines of their own; this one is for a kernel that hangs.
const LIMIT: Duration = Duration::from_secs(35 * 60);

/// Everything that the emulator knows but cmpxchg16b: QEMU 7.2 was seen to return from it with part of an operand in the
/// flags register, which ends a 6.12 kernel within seconds, now and then. And but fast strings: what a processor copies at once by
/// `rep movsb` the emulator copies byte by byte, which took a third of all its time.
const CPU: &str = "max,cx16=off,erms=off,fsrm=off";

/// A breakpoint that nobody set, as the kernel says it. The kernel patches its own code, as at each attachment to a tracepoint, by way of
/// breakpoints that it takes away again when every processor has seen them. QEMU runs processors as threads and keeps what it
/// translated: one can translate a page between QEMU's look for what to forget and the write itself, and then it
/// meets a breakpoint long after that was taken away. No processor does that.
const STALE_BREAKPOINT: &str = "Oops: int3:";

/// What became of one machine.
pub(crate) struct Boot {
    pub(crate) suite: Suite,
    pub(crate) release: String,
    /// Test by name: passed or not.
    pub(crate) tests: BTreeMap<String, bool>,
    /// What went wrong with the machine itself.
    pub(crate) fault: Option<String>,
    log: PathBuf,
}

pub(crate) fn boot(kernel: &Kernel, initramfs: &Path, folder: &Path, processors: u32) -> Boot {
    let log = folder.join(format!("{}.log", kernel.suite.version));
    let fault = run(kernel, initramfs, &log, processors)
        .err()
        .map(|error| format!("{error:#}"));
    let text = read(&log);
    let fault = fault.or_else(|| {
        exit_status(&text)
            .is_none()
            .then(|| "the tests did not come to an end".into())
    });
    Boot {
        suite: kernel.suite,
        release: kernel.release.clone(),
        tests: results(&text),
        fault,
        log,
    }
}

fn run(kernel: &Kernel, initramfs: &Path, log: &Path, processors: u32) -> Result<()> {
    let output = File::create(log).with_context(|| format!("could not create {}", log.display()))?;
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            CPU,
            "-smp",
            &processors.to_string(),
            "-m",
            "2G",
            "-nographic",
            "-no-reboot",
        ])
        .args(["-nodefaults", "-serial", "stdio", "-append"])
        .arg("console=ttyS0 quiet panic=-1 lsm=lockdown,capability,landlock,yama,apparmor,bpf")
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("could not start qemu-system-x86_64")?;
    let began = Instant::now();
    let mut forger = Forger::new(child.id(), log);
    loop {
        forger.serve()?;
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                bail!("the emulator ended with {status}")
            };
        }
        if began.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!(
                "the machine was still running after {} minutes",
                LIMIT.as_secs() / 60
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Boot {
    pub(crate) fn passed(&self) -> bool {
        self.fault.is_none() && exit_status(&read(&self.log)) == Some(0)
    }

    /// What the emulator did that no processor would, if that ended it.
    pub(crate) fn fault_of_the_emulator(&self) -> Option<String> {
        stale_breakpoint(&read(&self.log))
    }

    /// What the agents under test had their signals from.
    pub(crate) fn rungs(&self) -> (String, Rungs) {
        (self.suite.version.to_owned(), Rungs::read(&read(&self.log)))
    }

    /// The test runner's closing line, and before it the output of what failed.
    pub(crate) fn report(&self, took: Duration) -> String {
        let text = read(&self.log);
        let kernel = format!(
            "kernel {} ({}), {} s",
            self.suite.version,
            self.release,
            took.as_secs()
        );
        let result = text
            .lines()
            .find(|line| line.starts_with("test result:"))
            .unwrap_or("no test result")
            .to_owned();
        if self.passed() {
            return format!("{kernel}: {result}");
        }
        let lines: Vec<&str> = text.lines().collect();
        let begin = lines.iter().position(|line| line.starts_with("failures:"));
        let begin = begin.unwrap_or(lines.len().saturating_sub(30));
        let fault = self
            .fault
            .as_deref()
            .map(|fault| format!(": {fault}"))
            .unwrap_or_default();
        let log = self.log.display();
        format!(
            "{kernel}: FAILED{fault}; all it said is in {log}\n{}\n{kernel}: {result}",
            lines[begin..].join("\n")
        )
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).replace('\r', "")
}

fn stale_breakpoint(text: &str) -> Option<String> {
    if exit_status(text).is_some() {
        return None;
    }
    let at = text.find(STALE_BREAKPOINT)?;
    let line = text.get(at..)?.lines().find(|line| line.contains("RIP: 0010:"))?;
    let (_, place) = line.split_once("RIP: 0010:")?;
    Some(format!("a breakpoint of the past at {place}"))
}

fn exit_status(text: &str) -> Option<i32> {
    text.lines()
        .find_map(|line| line.strip_prefix("vm: e2e ended with ")?.trim().parse().ok())
}

/// Lines `test NAME ... ok`. The kernel may write between the parts of a line, so its end counts wherever it is.
fn results(text: &str) -> BTreeMap<String, bool> {
    let mut results = BTreeMap::new();
    let mut current: Option<&str> = None;
    for line in text.lines() {
        let named = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        let end = match named {
            Some((name, end)) => {
                current = Some(name.trim());
                end
            }
            None => line,
        };
        let verdict = if end.ends_with("ok") {
            Some(true)
        } else {
            end.ends_with("FAILED").then_some(false)
        };
        if let (Some(name), Some(verdict)) = (current, verdict) {
            results.insert(name.to_owned(), verdict);
            current = None;
        }
    }
    // The one that was running when the machine stopped.
    if let Some(name) = current {
        results.insert(name.to_owned(), false);
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_found_between_what_the_kernel_says() {
        let text = "running 4 tests\n\
                    test one   ... ok\n\
                    test two   ... [   12.3] a kernel message\nFAILED\n\
                    test three ... ignored\n\
                    test four  ... ";
        let expected = [("one", true), ("two", false), ("four", false)];
        assert_eq!(
            results(text),
            expected
                .into_iter()
                .map(|(name, passed)| (name.to_owned(), passed))
                .collect()
        );
        assert_eq!(exit_status("x\nvm: e2e ended with 101\n"), Some(101));
        assert_eq!(exit_status("x\n"), None);
    }

    #[test]
    fn only_a_breakpoint_that_ended_the_machine_is_the_emulators_fault() {
        let panic =
            "[  2.1] Oops: int3: 0000 [#1] SMP NOPTI\n[  2.1] RIP: 0010:trace_syscall_exit+0x5a/0x90\n";
        let fault = stale_breakpoint(panic).expect("is found");
        assert_eq!(fault, "a breakpoint of the past at trace_syscall_exit+0x5a/0x90");
        assert_eq!(
            stale_breakpoint(&format!("{panic}vm: e2e ended with 101\n")),
            None
        );
        assert_eq!(
            stale_breakpoint(&panic.replace("int3", "general protection fault")),
            None
        );
    }
}
