//! One process, as `/proc` tells it.
//!
//! Everything here is untrusted: a process chooses its name, its arguments and its paths, and may be gone
//! between two reads. All files of a process are opened below one descriptor of its directory, which
//! names that process for good: if it ends and its id is reused, further reads fail rather than mix the two.
//! Each file is read to a stated length.
//!
//! Start times are shown in the reader's time namespace. An agent in a time namespace of its own with an
//! offset would not recognise any process; the host's agent runs in the initial one.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags};
use sensor_common::record::ARGS_MAX;

use super::{Credentials, Image, Namespaces, ProcessId};
use crate::time::BootTime;

/// One clock tick as `/proc` counts them, in nanoseconds: `USER_HZ` is 100 on every architecture that eBPF
/// programs run on.
pub const TICK_NS: u64 = 10_000_000;

/// The longest small file that is read.
const SMALL: u64 = 16 << 10;

/// More threads of one process are not looked at one by one.
const THREADS_MAX: usize = 1 << 16;

const PF_KTHREAD: u64 = 0x0020_0000;
const PF_EXITING: u64 = 0x4;

/// Whether two start times lie in the same clock tick: one of them may be rounded down to it.
#[must_use]
pub fn same_tick(left: BootTime, right: BootTime) -> bool {
    left.0 / TICK_NS == right.0 / TICK_NS
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// State as one letter, `Z` for a process that ended and was not waited for.
    pub state: u8,
    /// Parent, 0 for none.
    pub parent: u32,
    /// A kernel thread.
    pub kernel_thread: bool,
    /// It is ending, and runs nothing any more.
    pub exiting: bool,
    /// How many threads it has.
    pub threads: u64,
    /// When it began, rounded down to a tick.
    pub start: BootTime,
    /// Length of the arguments; 0 where it may not be known.
    pub args_total: u64,
}

impl Stat {
    /// Reads the line, in which the name may hold anything, parentheses and line breaks included.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
        let rest = std::str::from_utf8(&text[after_name..]).ok()?;
        // The first is field 3 of proc(5).
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            parent: u32::try_from(number(4)?).ok()?,
            kernel_thread: number(9)? & PF_KTHREAD != 0,
            exiting: number(9)? & PF_EXITING != 0,
            threads: number(20)?,
            start: BootTime(number(22)?.checked_mul(TICK_NS)?),
            args_total: number(49).unwrap_or(0).saturating_sub(number(48).unwrap_or(0)),
        })
    }
}

/// A process's directory in `/proc`, held open.
#[derive(Debug)]
pub struct ProcDir {
    directory: OwnedFd,
}

impl ProcDir {
    /// The process that has this id now.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(tgid: u32) -> io::Result<Self> {
        let path = PathBuf::from(format!("/proc/{tgid}"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: rustix::fs::open(&path, flags, Mode::empty())?,
        })
    }

    /// The process of this id, if it has not ended: the start time must lie in the same tick.
    ///
    /// Another process cannot stand in for it but by taking over the process id within 10 ms of the
    /// start of the first, for which all ids would have to be gone through in that time.
    #[must_use]
    pub fn open_same(id: ProcessId) -> Option<(Self, Stat)> {
        let process = Self::open(id.tgid).ok()?;
        let stat = process.stat()?;
        same_tick(stat.start, id.start).then_some((process, stat))
    }

    /// Its status line.
    #[must_use]
    pub fn stat(&self) -> Option<Stat> {
        Stat::parse(&self.read("stat", SMALL).ok()?)
    }

    /// Whether all of its threads are stopped or traced, or it has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.each_thread(|state, _| is_halted(state))
    }

    /// Whether it runs no instruction and makes no other process before somebody else goes on: each of its threads is stopped, or waits in
    /// vfork(2) for a child to run a program or to end. No signal stops such a wait, only one that kills ends it.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.each_thread(|state, directory| {
            is_halted(state) || state == b'D' && self.waits_for_its_child(directory)
        })
    }

    /// Whether `is_so` for the state and the directory of each of its threads; of what has ended, everything is.
    fn each_thread(&self, is_so: impl Fn(u8, &str) -> bool) -> bool {
        let Some(leader) = self.stat() else {
            return true;
        };
        if leader.threads <= 1 {
            return is_so(leader.state, "");
        }
        let threads = self.numbers("task", THREADS_MAX).unwrap_or_default();
        threads.len() < THREADS_MAX
            && threads.iter().all(|thread| {
                let directory = format!("task/{thread}/");
                let stat = self.read(&format!("{directory}stat"), SMALL).ok();
                let stat = stat.and_then(|text| Stat::parse(&text));
                stat.is_none_or(|stat| is_so(stat.state, &directory))
            })
    }

    /// Whether the thread of this directory waits until its child of vfork(2) has a memory of its own. Kernels that do not name where a
    /// thread waits (no `CONFIG_KALLSYMS`) make this false.
    fn waits_for_its_child(&self, directory: &str) -> bool {
        let read = |file| {
            self.read(&format!("{directory}{file}"), SMALL)
                .unwrap_or_default()
        };
        let place = match read("wchan") {
            // Before Linux 5.16 often nothing: the functions are named in `stack` then, the innermost first, as `[<0>] kernel_clone+0xca/0x300`.
            place if place == b"0" => first_function(&read("stack")).to_vec(),
            place => place,
        };
        // The first is mostly compiled into the second, which itself waits for nothing else.
        matches!(&place[..], b"wait_for_vfork_done" | b"kernel_clone")
    }

    /// What it runs now. Nothing for a kernel thread.
    #[must_use]
    pub fn image(&self, stat: &Stat) -> Image {
        if stat.kernel_thread {
            return Image::default();
        }
        let (executable, inode, device) = self.executable();
        let (args, args_total) = self.args(stat);
        let cwd = self.link("cwd").unwrap_or_default();
        Image {
            executable,
            args,
            args_total,
            cwd,
            inode,
            device,
        }
    }

    /// Its executable's path, inode and device; empty and zero where they may not be known.
    ///
    /// The kernel adds ` (deleted)` to the path of a file that has no name any more, and a file may be
    /// named so: the number of its names tells which it is.
    #[must_use]
    pub fn executable(&self) -> (Box<[u8]>, u64, u32) {
        let Ok(path) = self.link("exe") else {
            return Default::default();
        };
        let Ok(about) = self.about("exe") else {
            return (path, 0, 0);
        };
        let device = about.stx_dev_major << 20 | about.stx_dev_minor;
        let path = match path.strip_suffix(b" (deleted)") {
            Some(name) if about.stx_nlink == 0 => name.into(),
            _ => path,
        };
        (path, about.stx_ino, device)
    }

    /// Its arguments, as many as a record may hold, and how many bytes there are.
    #[must_use]
    pub fn args(&self, stat: &Stat) -> (Box<[u8]>, u64) {
        let args = self.read("cmdline", ARGS_MAX as u64).unwrap_or_default();
        let total = stat.args_total.max(args.len() as u64);
        (args.into(), total)
    }

    /// Who it runs as and for.
    #[must_use]
    pub fn credentials(&self) -> Option<Credentials> {
        let status = self.read("status", SMALL).ok()?;
        let (uid, euid) = id_line(&status, b"Uid:")?;
        let (gid, egid) = id_line(&status, b"Gid:")?;
        let audit = |file| {
            let text = self.read(file, 32).ok()?;
            let id = std::str::from_utf8(&text).ok()?.trim().parse::<u32>().ok()?;
            (id != sensor_common::UNSET_ID).then_some(id)
        };
        Some(Credentials {
            uid,
            gid,
            euid,
            egid,
            login_uid: audit("loginuid"),
            session_id: audit("sessionid"),
        })
    }

    /// Its namespaces; 0 where they may not be known.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        let inode = |name| {
            self.link(name)
                .ok()
                .and_then(|link| namespace_inode(&link))
                .unwrap_or(0)
        };
        Namespaces {
            mount: inode("ns/mnt"),
            pid: inode("ns/pid"),
            net: inode("ns/net"),
        }
    }

    /// Its cgroups, one hierarchy a line.
    #[must_use]
    pub fn cgroups(&self) -> Vec<u8> {
        self.read("cgroup", SMALL).unwrap_or_default()
    }

    /// A file of at most `limit` bytes; the rest is left.
    ///
    /// # Errors
    /// If it cannot be opened or read, as when the process has ended.
    pub fn read(&self, file: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open_file(file)?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// One of its files. Opening does not wait: for who holds a lease on the executable, say.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_file(&self, file: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::openat(&self.directory, file, flags, Mode::empty())?.into())
    }

    /// The numbers in one of its directories, such as `fd` or `task`: at most `limit`, in their order.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn numbers(&self, directory: &str, limit: usize) -> io::Result<Vec<u32>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, directory, flags, Mode::empty())?;
        let mut numbers = Vec::new();
        for entry in rustix::fs::Dir::read_from(opened)? {
            let name = entry?;
            if let Ok(number) = name.file_name().to_string_lossy().parse() {
                numbers.push(number);
            }
            if numbers.len() >= limit {
                break;
            }
        }
        Ok(numbers)
    }

    /// What is known of one of its files, whose name may be a link to anywhere. A file system that is reached over a network, or that is a
    /// process's own, is not asked for news: it might never answer.
    ///
    /// # Errors
    /// If nothing is.
    pub fn about(&self, file: &str) -> io::Result<rustix::fs::Statx> {
        let flags = AtFlags::STATX_DONT_SYNC;
        Ok(rustix::fs::statx(
            &self.directory,
            file,
            flags,
            rustix::fs::StatxFlags::BASIC_STATS,
        )?)
    }

    /// The inodes of the sockets that it has open, of at most `limit` descriptors.
    pub fn sockets(&self, limit: usize) -> impl Iterator<Item = u64> + use<> {
        let directory = format!("/proc/self/fd/{}/fd", self.directory.as_raw_fd());
        let entries = std::fs::read_dir(directory).ok();
        entries
            .into_iter()
            .flatten()
            .flatten()
            .take(limit)
            .filter_map(|entry| {
                let link = std::fs::read_link(entry.path()).ok()?;
                socket_inode(link.as_os_str().as_bytes())
            })
    }

    /// Where one of its links leads.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn link(&self, name: &str) -> io::Result<Box<[u8]>> {
        let target = rustix::fs::readlinkat(&self.directory, name, Vec::new())?;
        Ok(target.into_bytes().into())
    }
}

/// The ids of every process, in the kernel's order.
pub fn process_ids(proc: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = std::fs::read_dir(proc).ok();
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| number(&entry.file_name()))
}

fn number(name: &OsStr) -> Option<u32> {
    name.to_str()?.parse().ok()
}

/// The real and the effective id of a line such as `Uid:\t1000\t0\t0\t0`.
fn id_line(status: &[u8], key: &[u8]) -> Option<(u32, u32)> {
    // The name comes first and is escaped by the kernel, so no line of its making can begin with the key.
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key))?;
    let mut ids = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}

/// Whether a thread in this state is stopped or traced, or has ended.
fn is_halted(state: u8) -> bool {
    matches!(state, b'T' | b't' | b'Z' | b'X')
}

/// `kernel_clone` of the lines of a kernel's stack that begin with `[<0>] kernel_clone+0xca/0x300`; nothing of anything else.
fn first_function(stack: &[u8]) -> &[u8] {
    let name = stack.strip_prefix(b"[<0>] ").unwrap_or_default();
    let end = name.iter().position(|byte| matches!(byte, b'+' | b'\n'));
    &name[..end.unwrap_or(0)]
}

/// `4026531841` of `mnt:[4026531841]`.
fn namespace_inode(link: &[u8]) -> Option<u32> {
    bracketed(link)?.try_into().ok()
}

/// `1234` of `socket:[1234]`.
pub(crate) fn socket_inode(link: &[u8]) -> Option<u64> {
    link.starts_with(b"socket:").then(|| bracketed(link)).flatten()
}

fn bracketed(link: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(link).ok()?;
    text.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let fields = "S 7 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 137871 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 \
                      0 0 0 0 0 0 0 0 1000 1024 0 0 0";
        for name in ["cat", ") Z 1 (", "a b\nc", "((", ""] {
            let stat = Stat::parse(format!("42 ({name}) {fields}").as_bytes()).unwrap();
            let expected = Stat {
                state: b'S',
                parent: 7,
                kernel_thread: false,
                exiting: false,
                threads: 1,
                start: BootTime(137_871 * TICK_NS),
                args_total: 24,
            };
            assert_eq!(stat, expected, "{name}");
        }
    }

    #[test]
    fn the_innermost_function_of_a_stack() {
        assert_eq!(
            first_function(b"[<0>] kernel_clone+0xca/0x300\n[<0>] __do_sys_clone+0x1\n"),
            b"kernel_clone"
        );
        for text in ["", "[<0>] ", "[<0>] half", "kernel_clone+0x1\n"] {
            assert_eq!(first_function(text.as_bytes()), b"", "{text:?}");
        }
    }

    #[test]
    fn broken_lines_are_refused() {
        for text in [
            "",
            "42",
            "42 (cat)",
            "42 (cat) S",
            "42 (cat) S x 1 1 1 1 1 1",
            "42 (cat) \u{fffd}",
        ] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn links_of_sockets_and_namespaces() {
        assert_eq!(namespace_inode(b"mnt:[4026531841]"), Some(4_026_531_841));
        assert_eq!(socket_inode(b"socket:[77]"), Some(77));
        for link in [
            &b"pipe:[77]"[..],
            b"socket:77",
            b"socket:[x]",
            b"/tmp/socket:[1",
            b"\xff",
        ] {
            assert_eq!(socket_inode(link), None);
        }
    }

    #[test]
    fn status_gives_real_and_effective_ids() {
        let status = b"Name:\tx\\nUid:\t9\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n";
        assert_eq!(id_line(status, b"Uid:"), Some((1000, 0)));
        assert_eq!(id_line(status, b"Gid:"), Some((5, 6)));
        assert_eq!(id_line(b"Uid:\tx", b"Uid:"), None);
    }

    #[test]
    fn this_process_is_as_the_system_calls_say() {
        let process = ProcDir::open(std::process::id()).unwrap();
        let stat = process.stat().unwrap();
        let image = process.image(&stat);
        assert_eq!(
            &*image.executable,
            std::env::current_exe().unwrap().as_os_str().as_bytes()
        );
        assert_eq!(
            &*image.cwd,
            std::env::current_dir().unwrap().as_os_str().as_bytes()
        );
        assert_eq!(image.args_total, image.args.len() as u64);
        assert_eq!(image.arguments().count(), std::env::args_os().count());
        assert_eq!(
            process.credentials().unwrap().uid,
            rustix::process::getuid().as_raw()
        );
        assert_ne!(process.namespaces(), Namespaces::default());
        assert!(stat.start <= BootTime::now());
        let id = ProcessId {
            tgid: std::process::id(),
            start: BootTime(stat.start.0 + 5),
        };
        assert!(ProcDir::open_same(id).is_some());
        assert!(
            ProcDir::open_same(ProcessId {
                start: BootTime(stat.start.0 + TICK_NS),
                ..id
            })
            .is_none()
        );
    }
}
