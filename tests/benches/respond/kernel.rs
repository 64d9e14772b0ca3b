//! Whether anything that a verdict names gets to run an instruction.

use std::{
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sensor::{
    enforce::{Enforcer, Options, Subject},
    time::BootTime,
};
use sensor_common::FileKey;
use sensor_tests::{numbers::Numbers, tiny};

/// Longest that this may take.
const LIMIT: Duration = Duration::from_secs(3600);

pub(super) fn measure(execs: u32, numbers: &mut Numbers) -> Result<()> {
    // Verdicts are not kept: they go with this process, whatever becomes of it.
    let mut enforcer = Enforcer::open(Options {
        bpffs: None,
        cgroup: None,
    })?;
    let folder = tempfile::tempdir()?;
    let by_inode = folder.path().join("by-inode");
    let by_path = folder.path().canonicalize()?.join("by-path");
    for program in [&by_inode, &by_path] {
        tiny::write(program)?;
    }
    let until = BootTime::now().after(LIMIT);
    enforcer.impose(&Subject::File(key(&by_inode)?), until)?;
    enforcer.impose(&Subject::Path(by_path.clone()), until)?;

    let begin = Instant::now();
    let made = folder.path().join("made");
    let (mut survivors, mut refused) = (0_u32, 0_u32);
    for round in 0..execs {
        let program = if round % 2 == 0 { &by_inode } else { &by_path };
        match Command::new(program).arg(&made).status() {
            Ok(status) => refused += u32::from(status.signal() == Some(libc::SIGKILL)),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => refused += 1,
            Err(error) => return Err(error).context("could not start a program"),
        }
        survivors += u32::from(fs::remove_file(&made).is_ok());
    }
    let hits: u64 = enforcer.list()?.iter().map(|verdict| verdict.hits).sum();
    ensure!(
        refused == execs && hits == u64::from(execs),
        "{execs} execs, {refused} refused, {hits} counted"
    );
    println!(
        "kernel_kill_survivors: {survivors} of {execs} execs; {:.0} us from one to the next",
        begin.elapsed().as_secs_f64() * 1e6 / f64::from(execs)
    );
    numbers.put("kernel_kill_survivors", survivors);
    numbers.put("kernel_kill_execs", execs);
    Ok(())
}

/// The file itself, as the kernel tells it.
fn key(path: &Path) -> Result<FileKey> {
    let metadata = fs::metadata(path)?;
    let device = metadata.dev();
    Ok(FileKey {
        inode: metadata.ino(),
        device: rustix::fs::major(device) << 20 | rustix::fs::minor(device),
        reserved: 0,
    })
}
