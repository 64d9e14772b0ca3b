//! Other credentials, by every way that the kernel has, and by one that it has not.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command::NOBODY, patience::patience};

/// `credentials`: changes them by every call there is, in threads and children too. Needs root.
pub(super) fn ordinary() -> Result<()> {
    let threads = [0; 4].map(|_| std::thread::spawn(by_calls));
    for thread in threads {
        thread.join().ok().context("a thread panicked")??;
    }
    in_child(|| by_calls().is_ok())?;
    in_child(in_user_namespace)?;
    // Without a change, in threads that share what they have.
    for _ in 0..20 {
        std::thread::spawn(|| File::create("/dev/null").map(drop))
            .join()
            .ok()
            .context("a thread panicked")??;
    }
    Ok(())
}

/// Of the calling thread alone: the C library would take all of them along.
fn by_calls() -> Result<()> {
    let nobody = i64::from(NOBODY);
    let id = |number: i64| number;
    for (call, arguments) in [
        (libc::SYS_setresgid, [id(5), id(6), id(7)]),
        (libc::SYS_setresuid, [id(1000), 0, 0]),
        (libc::SYS_setfsuid, [id(1000), 0, 0]),
        (libc::SYS_setfsuid, [0, 0, 0]),
        (libc::SYS_setreuid, [0, id(1000), 0]),
        (libc::SYS_setresuid, [-1, 0, -1]),
        (libc::SYS_setregid, [0, 0, 0]),
        (libc::SYS_setfsgid, [id(8), 0, 0]),
        (libc::SYS_setgroups, [0, 0, 0]),
        (libc::SYS_setgid, [nobody, 0, 0]),
        (libc::SYS_setuid, [nobody, 0, 0]),
        (libc::SYS_setuid, [nobody, 0, 0]),
    ] {
        // SAFETY: numbers only.
        if unsafe { libc::syscall(call, arguments[0], arguments[1], arguments[2]) } < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("call {call}"));
        }
        // A look in between, at what has just been set; and `access`, for which the kernel lends the thread its real ids.
        let _ = File::create("/dev/null");
        // SAFETY: the text ends with a NUL.
        unsafe { libc::access(c"/etc/passwd".as_ptr(), libc::W_OK) };
    }
    Ok(())
}

fn in_user_namespace() -> bool {
    // SAFETY: numbers only. A host may forbid it, which changes nothing.
    unsafe {
        libc::unshare(libc::CLONE_NEWUSER);
        let _ = File::create("/dev/null");
        // Out of the capabilities that it was given there.
        libc::prctl(libc::PR_CAPBSET_DROP, 21, 0, 0, 0);
        libc::setuid(0);
    }
    true
}

fn in_child(act: fn() -> bool) -> Result<()> {
    // SAFETY: the child does nothing but calls, and ends without coming back.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(i32::from(!act()));
        }
        let mut status = 0;
        ensure!(libc::waitpid(child, &mut status, 0) == child, "there is no child");
        ensure!(status == 0, "a child ended with {status}");
    }
    Ok(())
}

/// `forged MOMENT NUMBER`: asks whoever runs this machine to make it root by writing to its memory, waits for that, and
/// does what is to be noticed. Its ids, made of the number, are what it is found by.
pub(super) fn forged(args: &[String]) -> Result<()> {
    const SECBIT_KEEP_CAPS_LOCKED: u32 = 0x20;
    let moment = args.first().context("no moment is named")?;
    let base: u32 = super::number(args, 1)?;
    let [uid, gid, suid, sgid, euid, egid] = std::array::from_fn(|index| base + index as u32);
    // SAFETY: numbers only.
    unsafe {
        ensure!(
            libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_KEEP_CAPS_LOCKED) == 0,
            "no securebits"
        );
        ensure!(
            libc::setresgid(gid, egid, sgid) == 0 && libc::setresuid(uid, euid, suid) == 0,
            "no ids"
        );
    }
    // In the kernel's order, with what follows them there: that tells them from copies in records.
    let ids = [
        uid,
        gid,
        suid,
        sgid,
        euid,
        egid,
        euid,
        egid,
        SECBIT_KEEP_CAPS_LOCKED,
    ];
    let hex: String = ids
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("\nvm: forge {hex}");
    let deadline = Instant::now() + patience(20);
    // SAFETY: takes nothing.
    while unsafe { libc::getuid() } != 0 {
        ensure!(Instant::now() < deadline, "nobody has forged the ids");
        std::thread::sleep(Duration::from_millis(20));
    }
    match moment.as_str() {
        "call" => drop(File::create("/dev/null")?),
        "exec" => return Err(Command::new("/bin/true").exec().into()),
        "fork" => drop(std::thread::spawn(|| ()).join()),
        // What such an exploit does next: make the rest fit.
        // SAFETY: numbers only.
        "set" => ensure!(unsafe { libc::setresuid(0, 0, 0) } == 0, "setresuid was refused"),
        "exit" => {}
        _ => bail!("there is no such moment"),
    }
    Ok(())
}
