use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use tempfile::TempDir;

use super::*;

/// A host of its own: a root, a state directory, and a quarantine there.
struct Host {
    folder: TempDir,
    quarantine: Quarantine,
}

const CONTENT: &[u8] = b"#!/bin/sh\necho malware\n";

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for directory in ["etc/pam.d", "tmp", "usr/lib/x86_64-linux-gnu"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        symlink("usr/lib", root.join("lib")).unwrap();
        let state = root.join("state");
        let floor = Floor::new(&root, &state);
        let quarantine = Quarantine::with_floor(&state, floor).unwrap();
        Self { folder, quarantine }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    fn file(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::write(&path, CONTENT).unwrap();
        path
    }

    fn take(&self, path: &Path) -> Result<Item, QuarantineError> {
        let about = fs::symlink_metadata(path).unwrap();
        let wanted = Wanted {
            path: path.to_owned(),
            inode: about.ino(),
            device: Some(rustix::fs::major(about.dev()) << 20 | rustix::fs::minor(about.dev())),
        };
        let reason = Reason {
            number: None,
            who: "uid 0".into(),
            why: "a test".into(),
            incident: "1f".into(),
        };
        self.quarantine.take(&wanted, &reason, |_| Ok(()))
    }

    /// What is in the directory of the quarantine.
    fn kept(&self) -> usize {
        fs::read_dir(&self.quarantine.path).unwrap().count()
    }

    fn refuses(&self, path: &Path, why: &str) {
        let error = self.take(path).unwrap_err().to_string();
        assert!(error.contains(why), "{}: {error}", path.display());
        assert!(fs::symlink_metadata(path).is_ok(), "{} is gone", path.display());
        assert_eq!(self.kept(), 0);
    }
}

#[test]
fn a_file_is_away_and_comes_back_as_it_was() {
    let host = Host::new();
    let path = host.file("tmp/evil");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let file = fs::File::open(&path).unwrap();
    let attribute = rustix::fs::fsetxattr(&file, "user.x", b"y", rustix::fs::XattrFlags::empty());
    let before = fs::metadata(&path).unwrap();
    let item = host.take(&path).unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read_dir(host.path("tmp")).unwrap().count(), 0);
    assert_eq!(
        (&*item.who, &*item.why, &*item.incident),
        ("uid 0", "a test", "1f")
    );
    assert_eq!(item.sha256, crate::hex::hex(&Sha256::digest(CONTENT)));
    assert_eq!(host.quarantine.list().unwrap(), std::slice::from_ref(&item));

    let locked = host.quarantine.path.join(format!("{}.locked", item.id));
    assert_eq!(fs::metadata(&locked).unwrap().mode() & 0o7777, 0);
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o400)).unwrap();
    let stored = fs::read(&locked).unwrap();
    assert_eq!(stored, CONTENT.iter().map(|byte| !byte).collect::<Vec<_>>());

    assert_eq!(host.quarantine.restore(&item.id).unwrap(), item);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    let about = |file: &fs::Metadata| {
        (
            file.mode(),
            file.uid(),
            file.gid(),
            file.mtime(),
            file.mtime_nsec(),
            file.atime(),
        )
    };
    assert_eq!(about(&after), about(&before));
    if attribute.is_ok() {
        let mut value = [0; 8];
        let file = fs::File::open(&path).unwrap();
        assert_eq!(rustix::fs::fgetxattr(&file, "user.x", &mut value[..]), Ok(1));
    }
    assert_eq!(host.kept(), 0);
    let again = host.quarantine.restore(&item.id).unwrap_err();
    assert!(matches!(again, QuarantineError::Unknown(_)), "{again}");
}

#[test]
fn another_file_than_was_meant_is_left_alone() {
    let host = Host::new();
    let path = host.file("tmp/evil");
    let reason = Reason::default();
    for (inode, device) in [
        (fs::metadata(&path).unwrap().ino() + 1, None),
        (fs::metadata(&path).unwrap().ino(), Some(0xfff_ffff)),
    ] {
        let wanted = Wanted {
            path: path.clone(),
            inode,
            device,
        };
        let error = host.quarantine.take(&wanted, &reason, |_| Ok(())).unwrap_err();
        assert!(matches!(error, QuarantineError::Gone { .. }), "{error}");
    }
    assert!(path.exists());
    // Somebody puts another file in its place at the last moment.
    let (directory, name) = parent(&path).unwrap();
    let about = fs::metadata(&path).unwrap();
    let wanted = Wanted {
        path: path.clone(),
        inode: about.ino(),
        device: None,
    };
    let swap = |_: &[u8]| {
        fs::rename(&path, host.path("tmp/elsewhere")).unwrap();
        fs::write(&path, "innocent").unwrap();
        Ok(())
    };
    let error = host.quarantine.take(&wanted, &reason, swap).unwrap_err();
    assert!(matches!(error, QuarantineError::Gone { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"innocent");
    assert!(rustix::fs::statat(&directory, name, rustix::fs::AtFlags::empty()).is_ok());
    assert_eq!(host.kept(), 0);
}

#[test]
fn what_is_no_plain_file_or_behind_a_link_is_refused() {
    let host = Host::new();
    let target = host.file("tmp/target");
    let link = host.path("tmp/link");
    symlink(&target, &link).unwrap();
    host.refuses(&link, "no plain file");
    host.refuses(&host.path("tmp"), "no plain file");
    let pipe = host.path("tmp/pipe");
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::from(0o600), 0).unwrap();
    host.refuses(&pipe, "no plain file");
    symlink(host.path("tmp"), host.path("linked")).unwrap();
    host.refuses(&host.path("linked/target"), "a link is part of its path");
    let relative = Wanted {
        path: "tmp/x".into(),
        inode: 1,
        device: None,
    };
    let error = host.quarantine.take(&relative, &Reason::default(), |_| Ok(()));
    assert!(error.unwrap_err().to_string().contains("no absolute path"));
}

#[test]
fn the_floor_holds_by_every_name() {
    let host = Host::new();
    let passwd = host.file("etc/passwd");
    host.refuses(&passwd, "without which the host is lost");
    let other_name = host.path("tmp/harmless");
    fs::hard_link(&passwd, &other_name).unwrap();
    host.refuses(&other_name, "etc/passwd");
    host.refuses(&host.file("etc/pam.d/sshd"), "nothing in /etc/pam.d is");
    host.refuses(&host.file("usr/lib/ld-linux.so.2"), "without which");
    let libc = host.file("usr/lib/x86_64-linux-gnu/libc.so.6");
    host.refuses(&libc, "libc.so.6");
    host.refuses(&host.file("state/audit.jsonl"), "sensor's own");
    let evil = host.file("usr/lib/x86_64-linux-gnu/evil.so");
    let error = host.quarantine.take(
        &Wanted {
            path: evil.clone(),
            inode: fs::metadata(&evil).unwrap().ino(),
            device: None,
        },
        &Reason::default(),
        |_| Err(Refusal::Protected("evil.so".into())),
    );
    assert!(error.unwrap_err().to_string().contains("protected list"));
    assert!(host.take(&evil).is_ok());
}

#[test]
fn nothing_is_put_over_something_else_and_nothing_damaged() {
    let host = Host::new();
    let path = host.file("tmp/evil");
    let item = host.take(&path).unwrap();
    fs::write(&path, "new").unwrap();
    let error = host.quarantine.restore(&item.id).unwrap_err();
    assert!(matches!(error, QuarantineError::Occupied { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"new");
    fs::remove_file(&path).unwrap();

    let locked = host.quarantine.path.join(format!("{}.locked", item.id));
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).unwrap();
    let mut stored = fs::read(&locked).unwrap();
    stored[3] ^= 1;
    fs::write(&locked, &stored).unwrap();
    let error = host.quarantine.restore(&item.id).unwrap_err();
    assert!(matches!(error, QuarantineError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(host.path("tmp")).unwrap().count(), 0);
    assert_eq!(fs::metadata(&locked).unwrap().mode() & 0o7777, 0);
    assert_eq!(host.quarantine.list().unwrap().len(), 1);
    for id in ["", "../x", "nothing", "00"] {
        let error = host.quarantine.restore(id).unwrap_err();
        assert!(matches!(error, QuarantineError::Unknown(_)), "{id}: {error}");
    }
}

#[test]
fn other_names_are_told_and_stay() {
    let host = Host::new();
    let path = host.file("tmp/evil");
    fs::hard_link(&path, host.path("tmp/second")).unwrap();
    let item = host.take(&path).unwrap();
    assert_eq!(item.other_names, 1);
    assert!(host.path("tmp/second").exists());
}

#[test]
fn a_file_that_was_made_unremovable_is_removed_and_comes_back_so() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    let host = Host::new();
    let path = host.file("tmp/evil");
    let file = fs::File::open(&path).unwrap();
    let fixed = |file: &fs::File| ioctl_getflags(file).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE));
    let flags = ioctl_getflags(&file).unwrap_or(IFlags::empty());
    if ioctl_setflags(&file, flags | IFlags::IMMUTABLE).is_err() || !fixed(&file) {
        eprintln!("the file system has no such attribute, or this is not root");
        return;
    }
    let item = host.take(&path).unwrap();
    assert!(!path.exists());
    host.quarantine.restore(&item.id).unwrap();
    let file = fs::File::open(&path).unwrap();
    assert!(fixed(&file));
    ioctl_setflags(&file, flags).unwrap();
}
