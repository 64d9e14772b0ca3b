//! Reaches files in ways that hide where they are.

use std::{
    collections::HashSet,
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How long a link may take to be swapped in time.
const PATIENCE: Duration = Duration::from_secs(10);

/// `path-views FOLDER`: opens for writing, and says for each the path that is true and the inode.
pub(super) fn views(args: &[String]) -> Result<()> {
    let folder = args.first().context("no folder is named")?;
    let at = |name: &str| format!("{folder}/{name}");
    for name in ["real", "bound", "inner"] {
        fs::create_dir(at(name))?;
    }
    fs::write(at("real/file"), "")?;
    symlink("real", at("link"))?;
    // SAFETY: plain numbers.
    checked("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(None, "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    mount(Some(&at("real")), &at("bound"), None, libc::MS_BIND)?;
    mount(Some("tmpfs"), &at("inner"), Some("tmpfs"), 0)?;
    fs::write(at("inner/file"), "")?;

    open(&at("link/file"), &at("real/file"))?;
    open(&at("link/../link/./file"), &at("real/file"))?;
    open(&at("bound/file"), &at("bound/file"))?;
    open(&at("inner/file"), &at("inner/file"))?;
    let root = CString::new(at("real"))?;
    // SAFETY: the text ends with a NUL.
    checked("chroot", unsafe { libc::chroot(root.as_ptr()) })?;
    open("/file", &at("real/file"))?;
    open("/../../file", &at("real/file"))
}

fn open(by: &str, is: &str) -> Result<()> {
    let file = OpenOptions::new().append(true).open(by).context(by.to_owned())?;
    println!("{} {is}", file.metadata()?.ino());
    Ok(())
}

fn mount(source: Option<&str>, target: &str, kind: Option<&str>, flags: libc::c_ulong) -> Result<()> {
    let text = |text: Option<&str>| text.map(CString::new).transpose();
    let (source, target, kind) = (text(source)?, CString::new(target)?, text(kind)?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: every text ends with a NUL and outlives the call.
    checked("mount", unsafe {
        libc::mount(
            pointer(&source),
            target.as_ptr(),
            pointer(&kind),
            flags,
            ptr::null(),
        )
    })
}

/// `path-swaps FOLDER ROUNDS`: opens a symbolic link and changes its file's permissions by it, while a thread lets the link lead now
/// to one file and now to another. Says for each round which inode was opened and which was changed. Where both threads share a processor
/// all rounds can fall between two swaps: then there are more, until both files were opened, for [`PATIENCE`].
pub(super) fn swaps(args: &[String]) -> Result<()> {
    let folder = Path::new(args.first().context("no folder is named")?);
    let rounds: u32 = super::number(args, 1)?;
    let files = ["one", "two"].map(|name| folder.join(name));
    for (file, link) in files.iter().zip(["link", "other"]) {
        fs::write(file, "")?;
        symlink(file, folder.join(link))?;
    }
    let link = folder.join("link");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| swap(&link, &folder.join("other"), &done));
        let result = rounds_of(&link, &files, rounds);
        done.store(true, Ordering::Relaxed);
        swapper
            .join()
            .map_err(|_| anyhow::anyhow!("the swapping thread broke"))??;
        result
    })
}

fn rounds_of(link: &Path, files: &[std::path::PathBuf; 2], least: u32) -> Result<()> {
    let mut opened = HashSet::new();
    let deadline = Instant::now() + PATIENCE;
    for round in 0.. {
        if round >= least && (opened.len() > 1 || Instant::now() > deadline) {
            break;
        }
        opened.insert(one_round(link, files, round)?);
    }
    Ok(())
}

/// `path-storm FOLDER THREADS ROUNDS`: each thread opens a file of its own again and again, at the same time as the others.
pub(super) fn storm(args: &[String]) -> Result<()> {
    let folder = Path::new(args.first().context("no folder is named")?);
    let (threads, rounds): (usize, usize) = (super::number(args, 1)?, super::number(args, 2)?);
    std::thread::scope(|scope| {
        let threads = (0..threads).map(|thread| {
            // Of different lengths, so that one path over another shows.
            let name = format!("{thread}-{}", "x".repeat(200 - 7 * thread));
            let path = folder.join(&name).join(&name);
            scope.spawn(move || -> Result<()> {
                fs::create_dir(path.parent().context("no folder")?)?;
                for _ in 0..=rounds {
                    OpenOptions::new().append(true).create(true).open(&path)?;
                }
                Ok(())
            })
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread broke"))??;
        }
        Ok(())
    })
}

/// The inode that was opened.
fn one_round(link: &Path, files: &[std::path::PathBuf; 2], round: u32) -> Result<u64> {
    let opened = OpenOptions::new().append(true).open(link)?.metadata()?.ino();
    // Another number each time: whose permissions it is now, was changed.
    let mode = round % 0o777 + 1;
    fs::set_permissions(link, Permissions::from_mode(mode))?;
    let mut changed = 0;
    for file in files {
        let metadata = File::open(file)?.metadata()?;
        if metadata.mode() & 0o777 == mode {
            changed = metadata.ino();
        }
    }
    println!("{opened} {changed}");
    Ok(opened)
}

fn swap(link: &Path, other: &Path, done: &AtomicBool) -> Result<()> {
    let text = |path: &Path| CString::new(path.to_string_lossy().into_owned());
    let (link, other) = (text(link)?, text(other)?);
    while !done.load(Ordering::Relaxed) {
        // SAFETY: both texts end with a NUL.
        checked("renameat2", unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                libc::AT_FDCWD,
                link.as_ptr(),
                libc::AT_FDCWD,
                other.as_ptr(),
                libc::RENAME_EXCHANGE,
            ) as i32
        })?;
        std::thread::yield_now();
    }
    Ok(())
}

fn checked(what: &'static str, result: i32) -> Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error()).context(what);
    }
    Ok(())
}
