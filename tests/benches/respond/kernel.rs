//! Whether anything that a rule names gets to run an instruction.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sensor_tests::{
    agent::Agent,
    command::sensor,
    numbers::Numbers,
    patience::{patience, wait_for},
    tiny,
};

pub(super) fn measure(execs: u32, numbers: &mut Numbers) -> Result<()> {
    let (rules, programs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let program = programs.path().canonicalize()?.join("named");
    tiny::write(&program)?;
    let rule = format!(
        "title: named\nid: named\nlevel: high\nlogsource:\n  product: linux\n  category: process_creation\n\
         detection:\n  a:\n    Image: {}\n  condition: a\n",
        program.display()
    );
    fs::write(rules.path().join("rule.yml"), rule)?;
    // Verdicts are not kept: they go with the agent, whatever becomes of it.
    let agent = Agent::start(
        &format!(
            "[rules]\nbuiltin = true\npaths = [{:?}]\n[respond]\nmode = \"act\"\nbpffs = \"\"\n",
            rules.path()
        ),
        None,
    )?;
    let holding = || -> Result<String> {
        let mut command = Command::new(sensor()?);
        command
            .args(["respond", "holding", "--socket"])
            .arg(agent.socket());
        Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
    };
    let path = program.to_str().context("a path")?;
    wait_for("the kernel to refuse it", patience(10), || {
        Ok(holding()?.contains(path).then_some(()))
    })?;

    let begin = Instant::now();
    let made = programs.path().join("made");
    let (mut survivors, mut refused) = (0_u32, 0_u32);
    for _ in 0..execs {
        match Command::new(&program).arg(&made).status() {
            Ok(status) => refused += u32::from(status.signal() == Some(libc::SIGKILL)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => refused += 1,
            Err(error) => return Err(error).context("could not start a program"),
        }
        survivors += u32::from(fs::remove_file(&made).is_ok());
    }
    let took = begin.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let told = holding()?;
    ensure!(
        refused == execs && told.contains(&execs.to_string()),
        "{execs} execs, {refused} refused; {told}"
    );
    println!(
        "kernel_kill_survivors: {survivors} of {execs} execs that a rule names; {:.0} us from one to the next",
        took.as_secs_f64() * 1e6 / f64::from(execs)
    );
    numbers.put("kernel_kill_survivors", survivors);
    numbers.put("kernel_kill_execs", execs);
    Ok(())
}
