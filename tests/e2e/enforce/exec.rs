//! Programs that do not run.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use sensor::enforce::{EnforceError, Subject};
use sensor::time::BootTime;
use sensor_common::FileKey;
use sensor_tests::{
    command::{helper, wait},
    tiny,
};

use super::{Stage, later};
use crate::case;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        case("enforce::an_executable_dies_before_its_first_instruction", file),
        case("enforce::a_path_is_refused_before_anything_is_there", path),
        case("enforce::a_script_is_refused_by_its_path", script),
        case("enforce::a_login_user_starts_nothing", user),
        case("enforce::a_verdict_ends_by_itself", expiry),
        case("enforce::what_is_spared_runs", spared),
        case("enforce::what_may_not_be_refused_changes_nothing", refused),
    ]
}

const ROUNDS: usize = 1000;

/// The file itself, as the kernel tells it.
pub(super) fn key(path: &Path) -> Result<FileKey> {
    let metadata = fs::metadata(path)?;
    let device = metadata.dev();
    Ok(FileKey {
        inode: metadata.ino(),
        device: rustix::fs::major(device) << 20 | rustix::fs::minor(device),
        reserved: 0,
    })
}

/// What became of a program that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It ran, and ended well.
    Ran,
    /// The exec failed, or it was killed.
    Refused,
}

/// Starts a program and waits for its end.
pub(super) fn start(command: &mut Command) -> Result<End> {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(End::Refused),
        Err(error) => return Err(error).with_context(|| format!("could not start {command:?}")),
    };
    let status = wait(&mut child)?;
    match status.signal() {
        Some(libc::SIGKILL) => Ok(End::Refused),
        _ if status.success() => Ok(End::Ran),
        _ => bail!("{command:?} ended with {status}"),
    }
}

/// A program that creates a file, and that file.
pub(super) struct Victim {
    pub(super) program: PathBuf,
    file: PathBuf,
}

impl Victim {
    pub(super) fn new(stage: &Stage, name: &str) -> Result<Self> {
        let program = stage.path(name)?;
        tiny::write(&program)?;
        Ok(Self {
            program,
            file: stage.path("made")?,
        })
    }

    /// Refused without having run an instruction, or run.
    pub(super) fn start(&self) -> Result<End> {
        let end = start(Command::new(&self.program).arg(&self.file))?;
        let made = fs::remove_file(&self.file).is_ok();
        ensure!(
            made == (end == End::Ran),
            "{end:?}, but its file was made: {made}"
        );
        Ok(end)
    }
}

fn file() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    ensure!(victim.start()? == End::Ran, "it does not run as it is");
    let subject = Subject::File(key(&victim.program)?);
    stage.impose(&subject)?;
    for round in 0..ROUNDS {
        ensure!(victim.start()? == End::Refused, "it ran in round {round}");
    }
    // Under whatever name.
    let renamed = Victim {
        program: stage.path("another-name")?,
        file: victim.file.clone(),
    };
    fs::hard_link(&victim.program, &renamed.program)?;
    ensure!(renamed.start()? == End::Refused, "it ran under another name");
    let hits = stage.hits(&subject)?;
    ensure!(hits == ROUNDS as u64 + 1, "{hits} hits are counted");
    let copy = Victim::new(&stage, "copy")?;
    ensure!(copy.start()? == End::Ran, "another file is refused, too");
    ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
    ensure!(victim.start()? == End::Ran, "it is refused after it was lifted");
    ensure!(!stage.is_anything_kept(), "something is kept for nothing");
    ensure!(!stage.enforcer.lift(&subject)?, "it was lifted twice");
    Ok(())
}

fn path() -> Result<()> {
    let mut stage = Stage::set()?;
    let subject = Subject::Path(stage.path("to come")?);
    stage.impose(&subject)?;
    let victim = Victim::new(&stage, "to come")?;
    ensure!(victim.start()? == End::Refused, "it ran");
    // By a way that is written otherwise.
    let link = Victim {
        program: stage.path("link")?,
        file: victim.file.clone(),
    };
    std::os::unix::fs::symlink(&victim.program, &link.program)?;
    ensure!(link.start()? == End::Refused, "it ran by a link");
    for name in ["to com", "to come2", "to"] {
        let other = Victim::new(&stage, name)?;
        ensure!(other.start()? == End::Ran, "{name:?} is refused");
    }
    ensure!(stage.hits(&subject)? == 2, "{} hits", stage.hits(&subject)?);
    ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
    ensure!(victim.start()? == End::Ran, "it is refused after it was lifted");
    Ok(())
}

fn script() -> Result<()> {
    let mut stage = Stage::set()?;
    let script = stage.path("script")?;
    fs::write(&script, "#!/bin/sh\n: > \"$1\"\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let folder = stage.path("")?;
    let made = stage.path("made by a script")?;
    let ways = [
        (script.as_path(), Path::new("/")),
        (Path::new("./script"), folder.as_path()),
    ];
    let run = |(program, folder): (&Path, &Path)| -> Result<End> {
        let end = start(Command::new(program).arg(&made).current_dir(folder))?;
        ensure!(
            fs::remove_file(&made).is_ok() == (end == End::Ran),
            "{end:?}, and yet"
        );
        Ok(end)
    };
    for way in ways {
        ensure!(run(way)? == End::Ran, "{} does not run as it is", way.0.display());
    }
    stage.impose(&Subject::Path(script.clone()))?;
    for way in ways {
        ensure!(run(way)? == End::Refused, "{} ran", way.0.display());
    }
    Ok(())
}

fn user() -> Result<()> {
    const USER: u32 = 4_242;
    if !Path::new("/proc/self/loginuid").exists() {
        eprintln!("this kernel knows no login users");
        return Ok(());
    }
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    // The login itself runs a program, which must not be refused for what it is about to become.
    let login = |user: u32| -> Result<End> {
        let user = user.to_string();
        let program = victim.program.to_string_lossy().into_owned();
        let file = victim.file.to_string_lossy().into_owned();
        let end = start(helper("login-uid")?.args([&user, &program, &file]))?;
        ensure!(
            fs::remove_file(&victim.file).is_ok() == (end == End::Ran),
            "{end:?}, and yet"
        );
        Ok(end)
    };
    ensure!(login(USER)? == End::Ran, "the user starts nothing as it is");
    stage.impose(&Subject::User(USER))?;
    let refused = login(USER);
    // Where the exec fails, the helper lives on to say so.
    ensure!(!matches!(refused, Ok(End::Ran)), "the user starts programs");
    ensure!(stage.hits(&Subject::User(USER))? == 1, "not counted");
    ensure!(login(USER + 1)? == End::Ran, "another user starts nothing");
    ensure!(victim.start()? == End::Ran, "who did not log in starts nothing");
    Ok(())
}

fn expiry() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    let subject = Subject::File(key(&victim.program)?);
    // Loading the programs may take longer than what follows should.
    stage.impose(&subject)?;
    ensure!(victim.start()? == End::Refused, "it ran");
    let until = later(2);
    stage.enforcer.impose(&subject, until)?;
    while BootTime::now() < until {
        let before = BootTime::now();
        let end = victim.start()?;
        ensure!(
            end == End::Refused || BootTime::now() >= until,
            "it ran at {before:?}, before {until:?}"
        );
    }
    ensure!(victim.start()? == End::Ran, "it is refused after its time");
    let ended = stage.enforcer.sweep(BootTime::now())?;
    ensure!(
        ended.len() == 1
            && ended
                .iter()
                .all(|verdict| verdict.subject == subject && verdict.hits > 0),
        "{ended:?}"
    );
    ensure!(!stage.is_anything_kept(), "something is kept for nothing");
    // Imposed anew, it holds until the later time.
    stage.enforcer.impose(&subject, later(1))?;
    stage.enforcer.impose(&subject, later(600))?;
    sleep(Duration::from_millis(1100));
    ensure!(
        victim.start()? == End::Refused,
        "it ran when only the former time had passed"
    );
    Ok(())
}

fn spared() -> Result<()> {
    let mut stage = Stage::set()?;
    let victim = Victim::new(&stage, "victim")?;
    let file = key(&victim.program)?;
    stage.enforcer.spare(&[file], &[])?;
    stage.impose(&Subject::File(file))?;
    stage.impose(&Subject::Path(victim.program.clone()))?;
    ensure!(victim.start()? == End::Ran, "it is refused");
    stage.enforcer.spare(&[], &[])?;
    ensure!(
        victim.start()? == End::Refused,
        "it ran when it was no longer spared"
    );
    // This program is the agent here.
    stage.impose(&Subject::Path(std::env::current_exe()?.canonicalize()?))?;
    ensure!(
        start(helper("exit")?.arg("0"))? == End::Ran,
        "the agent's own executable is refused"
    );
    Ok(())
}

fn refused() -> Result<()> {
    let mut stage = Stage::set()?;
    let file = Subject::File(FileKey {
        inode: 1,
        device: 1,
        reserved: 0,
    });
    let cases = [
        (Subject::Path("relative".into()), later(60), "absolute"),
        (Subject::Path("/a/../b".into()), later(60), "absolute"),
        (Subject::User(u32::MAX), later(60), "name a user"),
        (
            Subject::End("0.0.0.0/0".parse::<ipnet::IpNet>()?.into()),
            later(60),
            "isolate the host",
        ),
        (Subject::Cgroup(1), later(60), "isolate it instead"),
        (file.clone(), BootTime(1), "has passed"),
        (file, later(31 * 86_400), "30 days"),
    ];
    for (subject, until, word) in cases {
        let result: std::result::Result<(), EnforceError> = stage.enforcer.impose(&subject, until);
        let said = result.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains(word), "{subject}: {said:?}");
    }
    ensure!(
        stage.enforcer.list()?.is_empty() && !stage.is_anything_kept(),
        "something has changed"
    );
    Ok(())
}
