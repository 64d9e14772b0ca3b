//! Kernel programs: which a process holds, whether they are still loaded, and one that does nothing.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};

/// Commands of the system call `bpf`.
const MAP_DELETE: libc::c_int = 3;
const MAP_NEXT_KEY: libc::c_int = 4;
const OBJECT_GET: libc::c_int = 7;
const PROGRAM_LOAD: libc::c_int = 5;
const PROGRAM_BY_ID: libc::c_int = 13;
const INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const LINK_BY_ID: libc::c_int = 30;
const LINK_NEXT_ID: libc::c_int = 31;
const LINK_DETACH: libc::c_int = 34;

/// A link to a cgroup, in `enum bpf_link_type`.
const CGROUP: u32 = 3;

const RAW_TRACEPOINT: u32 = 17;

/// The head of the kernel's `union bpf_attr` to open a program by its id.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// The same to load a program.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same to attach it to a raw tracepoint.
#[repr(C)]
struct RawTracepoint {
    name: u64,
    program: u32,
    reserved: u32,
}

/// The head of `struct bpf_link_info` of a link to a cgroup; the cgroup is 0 where it was detached.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    reserved: u32,
    cgroup: u64,
    hook: u32,
    more: [u32; 25],
}

/// The head of `union bpf_attr` to ask about a descriptor.
#[repr(C)]
struct Info {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// Ids of the links by which programs are attached to cgroups, with the program of each.
///
/// # Errors
/// If the kernel does not tell.
pub fn cgroup_links() -> Result<Vec<(u32, u32)>> {
    let mut links = Vec::new();
    let mut id = 0;
    loop {
        let mut next = ById {
            id,
            next: 0,
            flags: 0,
        };
        // SAFETY: the value lives.
        match unsafe { call(LINK_NEXT_ID, &raw mut next) } {
            Ok(_) => id = next.next,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(links),
            Err(error) => return Err(error).context("the kernel does not list links"),
        }
        // It may be gone by now.
        let Ok(link) = link(id) else { continue };
        let mut found = LinkInfo::default();
        let mut info = Info {
            descriptor: link.as_raw_fd() as u32,
            length: size_of::<LinkInfo>() as u32,
            info: &raw mut found as u64,
        };
        // SAFETY: so does what it points to, which is as long as it says.
        unsafe { call(INFO_BY_FD, &raw mut info) }.context("the kernel does not say what a link is")?;
        if found.kind == CGROUP && found.cgroup != 0 {
            links.push((id, found.program));
        }
    }
}

/// The head of `union bpf_attr` to open what has a name.
#[repr(C)]
struct Named {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The same for an entry of a map.
#[repr(C)]
struct Entry {
    map: u32,
    reserved: u32,
    key: u64,
    next: u64,
    flags: u64,
}

/// Takes out all entries of the map that has this name in a BPF file system; its keys have `length` bytes. How many there were.
///
/// # Errors
/// If there is no such map, or the kernel refuses.
pub fn empty_map(path: &Path, length: usize) -> Result<usize> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let named = Named {
        path: name.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    let map = open(OBJECT_GET, &named).with_context(|| format!("no map {}", path.display()))?;
    let mut key = vec![0_u8; length];
    let mut taken = 0;
    loop {
        let mut entry = Entry {
            map: map.as_raw_fd() as u32,
            reserved: 0,
            key: 0,
            next: key.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the value lives, as does what it points to, which is as long as a key.
        match unsafe { call(MAP_NEXT_KEY, &raw mut entry) } {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(taken),
            Err(error) => return Err(error).context("the kernel does not list a map"),
        }
        (entry.key, entry.next) = (key.as_ptr() as u64, 0);
        // SAFETY: the same.
        unsafe { call(MAP_DELETE, &raw mut entry) }.context("an entry stays")?;
        taken += 1;
    }
}

/// Takes the program of a link off its hook; the link lives on.
///
/// # Errors
/// If the kernel refuses.
pub fn detach(id: u32) -> Result<()> {
    let link = link(id)?;
    let mut attribute = [link.as_raw_fd() as u32];
    // SAFETY: the value lives.
    unsafe { call(LINK_DETACH, &raw mut attribute) }.context("the link stays")?;
    Ok(())
}

fn link(id: u32) -> Result<OwnedFd> {
    let by_id = ById {
        id,
        next: 0,
        flags: 0,
    };
    open(LINK_BY_ID, &by_id).context("no such link")
}

/// A program that does nothing, attached to a raw tracepoint until this is dropped.
#[derive(Debug)]
pub struct Empty {
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    /// Attaches one.
    ///
    /// # Errors
    /// If the kernel refuses: it wants root, and a tracepoint of that name.
    pub fn attach(tracepoint: &CStr) -> Result<Self> {
        // r0 = 0; exit
        let code: [u64; 2] = [0xb7, 0x95];
        let load = Load {
            kind: RAW_TRACEPOINT,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
        };
        let program = open(PROGRAM_LOAD, &load).context("could not load an empty program")?;
        let attach = RawTracepoint {
            name: tracepoint.as_ptr() as u64,
            program: program.as_raw_fd() as u32,
            reserved: 0,
        };
        let link = open(RAW_TRACEPOINT_OPEN, &attach).with_context(|| {
            format!(
                "could not attach an empty program to {}",
                tracepoint.to_string_lossy()
            )
        })?;
        Ok(Self {
            _program: program,
            _link: link,
        })
    }
}

/// Ids of the kernel programs that process `pid` has open.
///
/// # Errors
/// If the process is not there.
pub fn programs_of(pid: u32) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that was closed meanwhile is no error.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id: Option<u32> = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
        ids.extend(id);
    }
    Ok(ids)
}

/// Whether the kernel still has program `id`.
///
/// # Errors
/// If the kernel does not want to say.
pub fn is_loaded(id: u32) -> Result<bool> {
    let attribute = ById {
        id,
        next: 0,
        flags: 0,
    };
    match open(PROGRAM_BY_ID, &attribute) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A command that answers with a descriptor. `attribute` is the head of `union bpf_attr` for it; what it points to must be alive.
fn open<T>(command: libc::c_int, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel only reads what these commands are given; it just gave us this descriptor, and nobody else knows it.
    unsafe {
        let descriptor = call(command, std::ptr::from_ref(attribute).cast_mut())?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// # Safety
/// The pointer must be to a live value, which may be written to where the command does that.
unsafe fn call<T>(command: libc::c_int, attribute: *mut T) -> io::Result<i32> {
    // SAFETY: as promised; the length is that of the value.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result @ 0..) => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
