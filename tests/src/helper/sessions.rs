//! What programs do that let people in.

use std::{ffi::CString, fs, io, os::fd::FromRawFd as _, os::fd::OwnedFd};

use anyhow::{Context as _, Result, ensure};

unsafe extern "C" {
    /// glibc's; the crate has only its neighbours.
    fn updwtmpx(file: *const libc::c_char, record: *const libc::utmpx);
}

/// `log-session FILE TYPE TERMINAL USER HOST`: appends a record as `login` and `sshd` do, by the C library.
pub(super) fn log(args: &[String]) -> Result<()> {
    let [file, _, terminal, user, host] = args else {
        anyhow::bail!("five arguments are needed");
    };
    let kind: i16 = super::number(args, 1)?;
    // SAFETY: all zeroes is a record; each text is shorter than its field, which the copy checks.
    unsafe {
        let mut record: libc::utmpx = std::mem::zeroed();
        record.ut_type = kind;
        record.ut_pid = std::process::id() as i32;
        copy(&mut record.ut_line, terminal)?;
        copy(&mut record.ut_user, user)?;
        copy(&mut record.ut_host, host)?;
        let file = CString::new(file.as_str())?;
        updwtmpx(file.as_ptr(), &record);
    }
    Ok(())
}

fn copy(field: &mut [libc::c_char], text: &str) -> Result<()> {
    ensure!(text.len() < field.len(), "{text:?} is too long");
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from.cast_signed();
    }
    Ok(())
}

/// `login-uid UID PROGRAM ARGUMENT…`: what `pam_loginuid` does, then the shell of the session.
pub(super) fn login_uid(args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let uid = args.first().context("no uid")?;
    fs::write("/proc/self/loginuid", uid)?;
    let (become_it, rest) = match args.get(1).map(String::as_str) {
        Some("--become") => (true, &args[2..]),
        _ => (false, &args[1..]),
    };
    let mut program = std::process::Command::new(rest.first().context("no program")?);
    program.args(&rest[1..]);
    if become_it {
        program.uid(uid.parse()?);
    }
    Err(program.exec().into())
}

/// `audit TEXT`: what PAM tells the kernel when somebody fails to authenticate, with auditing switched on as by its daemon.
pub(super) fn audit(args: &[String]) -> Result<()> {
    const AUDIT_SET: u16 = 1001;
    const AUDIT_USER_AUTH: u16 = 1100;
    let text = args.first().context("no text")?;
    // struct audit_status: the mask says that the second word counts, which is one.
    let mut enable = [0_u8; 44];
    enable[0] = 1;
    enable[4] = 1;
    // SAFETY: a new descriptor that nobody else has.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT);
        ensure!(socket >= 0, "no audit socket: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(socket)
    };
    for (kind, body) in [(AUDIT_SET, &enable[..]), (AUDIT_USER_AUTH, text.as_bytes())] {
        request(&socket, kind, body)?;
    }
    Ok(())
}

/// Sends a request and waits for the kernel's word that it was done.
fn request(socket: &OwnedFd, kind: u16, body: &[u8]) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let mut answer = [0_u8; 256];
    // SAFETY: both buffers are as long as is said.
    let length = unsafe {
        let sent = libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0);
        ensure!(
            sent > 0,
            "the kernel takes no audit message: {}",
            io::Error::last_os_error()
        );
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    ensure!(length >= 20, "no answer to audit message {kind}");
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    ensure!(
        error == 0,
        "audit message {kind}: {}",
        io::Error::from_raw_os_error(-error)
    );
    Ok(())
}
