//! What the kernel is asked for, one thing after the other.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt as _, chown, symlink},
    },
    path::Path,
    process::Command,
    ptr,
};

use anyhow::{Context as _, Result};

/// `operations FOLDER`: works in the folder, then leaves its namespaces. Each step is one that the agent knows.
pub(super) fn run(args: &[String]) -> Result<()> {
    let folder = Path::new(args.first().context("no folder is named")?);
    files(folder)?;
    memory()?;
    other_processes()?;
    // Last: afterwards this process sees another host.
    namespaces(folder)
}

/// `rare-operations FOLDER`: what few programs ask for, each a line `SIGNAL done`, or `SIGNAL` and why the kernel did not do it.
pub(super) fn rare(args: &[String]) -> Result<()> {
    let path = Path::new(args.first().context("no folder is named")?).join("rare");
    let file = File::create(&path)?;
    let name = CString::new(path.to_string_lossy().into_owned())?;
    let value = b"x";
    let attribute = c"trusted.sensor-test";
    // SAFETY: texts end with a NUL, and what the kernel reads or writes is as long as it is told.
    unsafe {
        let set = libc::setxattr(name.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), 1, 0);
        told("file_xattr", set.into());
        let mut flags: libc::c_long = 0;
        let descriptor = file.as_raw_fd();
        let got = libc::ioctl(descriptor, libc::FS_IOC_GETFLAGS, &mut flags);
        told(
            "file_flags",
            match got {
                0 => libc::ioctl(descriptor, libc::FS_IOC_SETFLAGS, &flags).into(),
                refused => refused.into(),
            },
        );
        const KEY_SPEC_PROCESS_KEYRING: libc::c_long = -2;
        let (kind, description) = (c"user", c"sensor-test");
        let key = libc::syscall(
            libc::SYS_add_key,
            kind.as_ptr(),
            description.as_ptr(),
            value.as_ptr(),
            1_usize,
            KEY_SPEC_PROCESS_KEYRING,
        );
        told("keyctl", key);
        told(
            "userfaultfd",
            libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC),
        );
        // Before 5.11 programs count as locked memory.
        let unlimited = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &unlimited);
        told("bpf", load_program());
        // Whoever runs this on a host may have a kernel ready to be started: only a machine that is made for it is asked to forget it.
        if std::env::var_os("SENSOR_TEST_VM").is_some() {
            told(
                "kexec",
                libc::syscall(libc::SYS_kexec_load, 0_usize, 0_usize, ptr::null::<u8>(), 0_usize),
            );
        }
    }
    Ok(())
}

/// A program for sockets that lets nothing through, and is attached to none.
unsafe fn load_program() -> libc::c_long {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const SOCKET_FILTER: u32 = 1;
    // include/uapi/linux/bpf.h: code, registers, offset, immediate. r0 = 0; exit.
    let instructions: [u64; 2] = [0xb7, 0x95];
    let licence = c"GPL";
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        licence: u64,
        log: [u64; 2],
        more: [u64; 12],
    }
    let load = Load {
        kind: SOCKET_FILTER,
        count: 2,
        instructions: instructions.as_ptr() as u64,
        licence: licence.as_ptr() as u64,
        log: [0; 2],
        more: [0; 12],
    };
    // SAFETY: the kernel reads as much as it is told, and what that points to lives.
    unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, 48_usize) }
}

fn told(signal: &str, result: libc::c_long) {
    match result {
        0.. => println!("{signal} done"),
        _ => println!("{signal} {}", io::Error::last_os_error()),
    }
}

fn files(folder: &Path) -> Result<()> {
    fs::write(folder.join("made"), "x")?;
    symlink("made", folder.join("link"))?;
    // By another name than the file's own.
    OpenOptions::new().append(true).open(folder.join("link"))?;
    fs::rename(folder.join("made"), folder.join("moved"))?;
    std::env::set_current_dir(folder)?;
    fs::rename("moved", "again")?;
    fs::hard_link("again", "second")?;
    fs::set_permissions("again", Permissions::from_mode(0o640))?;
    chown("again", Some(0), Some(0))?;
    File::options().write(true).open("again")?.set_len(7)?;
    fs::remove_file("second")?;
    fs::create_dir("folder")?;
    Ok(())
}

fn memory() -> Result<()> {
    // SAFETY: the name ends with a NUL; the mapping is new, and what is made executable is never executed.
    unsafe {
        checked("memfd_create", libc::memfd_create(c"sensor-test".as_ptr(), 0))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        checked(
            "mprotect",
            libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC),
        )?;
        let both = libc::PROT_WRITE | libc::PROT_EXEC;
        libc::mmap(ptr::null_mut(), 4096, both, flags, -1, 0);
    }
    Ok(())
}

fn other_processes() -> Result<()> {
    let mut child = Command::new("/bin/sleep").arg("60").spawn()?;
    let pid = child.id() as i32;
    let (mut from, mut to) = ([7_u8; 4], [0_u8; 4]);
    let vector = |bytes: &mut [u8; 4]| libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 4,
    };
    let (local, remote) = (vector(&mut from), vector(&mut to));
    // SAFETY: the child is ours; what is written to lies in this process.
    unsafe {
        checked("ptrace", libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) as i32)?;
        let own = libc::getpid();
        checked(
            "process_vm_writev",
            libc::process_vm_writev(own, &local, 1, &remote, 1, 0) as i32,
        )?;
        checked(
            "socket",
            libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        )?;
        checked("setsid", libc::setsid())?;
    }
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn namespaces(folder: &Path) -> Result<()> {
    let place = CString::new(folder.join("folder").to_string_lossy().into_owned())?;
    // SAFETY: every text ends with a NUL; what is mounted is mounted in a namespace of this process alone.
    unsafe {
        checked("unshare", libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        checked(
            "mount",
            libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()),
        )?;
        let tmpfs = c"tmpfs".as_ptr();
        checked("mount", libc::mount(tmpfs, place.as_ptr(), tmpfs, 0, ptr::null()))?;
        checked("umount2", libc::umount2(place.as_ptr(), libc::MNT_DETACH))?;
        checked("chroot", libc::chroot(c"/".as_ptr()))?;
    }
    Ok(())
}

fn checked(what: &'static str, result: i32) -> Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error()).context(what);
    }
    Ok(())
}
