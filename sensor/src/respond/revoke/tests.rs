use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use tempfile::TempDir;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                      daemon:x:1:1::/:/usr/sbin/nologin\n\
                      alice:x:1000:1000:Alice:/home/alice:/bin/bash\n\
                      ali:x:1000:1000:the same:/home/alice:/bin/bash\n\
                      alices:x:1002:1002::/:/bin/sh\n\
                      ghost:x:1003:1003::/:/bin/sh\n\
                      bob:x:1001:1001:Bob:/home/bob:/bin/bash\n";

const SHADOW: &str = "root:*:19000:0:99999:7:::\n\
                      # kept as it is\n\
                      alice:$y$j9T$abc$def:19000:0:99999:7:::\n\
                      ali:!:19000::::::\n\
                      alices:$6$x:19000:0:99999:7:30:20000:\n\
                      bob:$6$salt$hash:19000:0:99999:7:::";

struct Host {
    folder: TempDir,
    accounts: Accounts,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("passwd"), PASSWD).unwrap();
        fs::write(etc.join("shadow"), SHADOW).unwrap();
        fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
        let accounts = Accounts::new(folder.path(), &folder.path().join("state"), [1005]);
        Self { folder, accounts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("etc").join(name)
    }

    fn shadow(&self) -> String {
        fs::read_to_string(self.path("shadow")).unwrap()
    }

    fn lock(&self, uid: u32) -> Result<(Revoked, Done), RevokeError> {
        let reason = Reason {
            number: None,
            who: "uid 0".into(),
            why: "a test".into(),
            incident: "1f".into(),
        };
        self.accounts.lock(uid, &reason)
    }

    /// `SHADOW` with one line replaced.
    fn with(from: &str, to: &str) -> String {
        assert!(SHADOW.contains(from));
        SHADOW.replace(from, to)
    }
}

#[test]
fn an_account_is_locked_and_given_back_byte_by_byte() {
    let host = Host::new();
    let before = fs::metadata(host.path("shadow")).unwrap();
    let (revoked, done) = host.lock(1001).unwrap();
    assert_eq!((revoked.uid, &*revoked.who, done), (1001, "uid 0", Done::Now));
    let locked = Host::with(
        "bob:$6$salt$hash:19000:0:99999:7:::",
        "bob:!$6$salt$hash:19000:0:99999:7::1:",
    );
    assert_eq!(host.shadow(), locked);
    let after = fs::metadata(host.path("shadow")).unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
    assert_ne!(after.ino(), before.ino(), "it was written to, not replaced");
    let record = host.folder.path().join("state/revoked/1001.json");
    assert_eq!(fs::metadata(&record).unwrap().mode() & 0o777, 0o600);
    assert_eq!(host.accounts.list(), std::slice::from_ref(&revoked));
    assert!(!format!("{revoked:?}").contains("salt"));

    assert_eq!(host.lock(1001).unwrap(), (revoked.clone(), Done::Before));
    assert_eq!(host.shadow(), locked);
    assert_eq!(host.accounts.restore(1001).unwrap(), (revoked, Done::Now));
    assert_eq!(host.shadow(), SHADOW);
    assert!(!record.exists());
    let error = host.accounts.restore(1001).unwrap_err();
    assert!(matches!(error, RevokeError::NotRevoked(1001)), "{error}");
    let mut left: Vec<_> = fs::read_dir(host.folder.path().join("etc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [".pwd.lock", "passwd", "shadow"]);
}

#[test]
fn all_names_of_a_user_are_locked_and_what_was_locked_stays_so() {
    let host = Host::new();
    let (revoked, _) = host.lock(1000).unwrap();
    assert_eq!(revoked.accounts.len(), 2);
    let shadow = host.shadow();
    assert!(
        shadow.contains("alice:!$y$j9T$abc$def:19000:0:99999:7::1:\n"),
        "{shadow}"
    );
    assert!(shadow.contains("ali:!:19000:::::1:\n"), "{shadow}");
    assert!(shadow.contains("alices:$6$x:19000"), "{shadow}");
    host.accounts.restore(1000).unwrap();
    assert_eq!(host.shadow(), SHADOW);
    host.lock(1002).unwrap();
    assert!(host.shadow().contains("alices:!$6$x:19000:0:99999:7:30:1:\n"));
    host.accounts.restore(1002).unwrap();
    assert_eq!(host.shadow(), SHADOW);
}

#[test]
fn what_somebody_changed_since_is_not_overwritten() {
    let host = Host::new();
    host.lock(1001).unwrap();
    let changed = host.shadow().replace("bob:!$6$salt$hash", "bob:$6$new$hash");
    fs::write(host.path("shadow"), &changed).unwrap();
    let error = host.accounts.restore(1001).unwrap_err();
    assert!(
        matches!(&error, RevokeError::Changed { name } if name == "bob"),
        "{error}"
    );
    assert_eq!(host.shadow(), changed);
    // Locked once more, it is the new one that is given back.
    assert_eq!(host.lock(1001).unwrap().1, Done::Now);
    host.accounts.restore(1001).unwrap();
    assert_eq!(host.shadow(), changed);
    // Somebody gave it back by hand.
    fs::write(host.path("shadow"), SHADOW).unwrap();
    host.lock(1001).unwrap();
    fs::write(host.path("shadow"), SHADOW).unwrap();
    assert_eq!(host.accounts.restore(1001).unwrap().1, Done::Before);
    assert_eq!(host.shadow(), SHADOW);
}

#[test]
fn some_are_never_locked_and_some_are_not_here() {
    let host = Host::new();
    let own = own_users().into_iter().find(|uid| *uid != 0);
    for (uid, why) in [
        (0, "root is never locked"),
        (1, "below 1000 (UID_MIN)"),
        (65_534, "it is nobody"),
        (1005, "lock themselves out"),
        (own.unwrap_or(0), "locked"),
        (4_711, "has to be locked there"),
        (1003, "ghost has no line in it"),
    ] {
        let error = host.lock(uid).unwrap_err().to_string();
        assert!(error.contains(why), "{uid}: {error}");
    }
    fs::write(host.path("login.defs"), "# UID_MIN 1\nUID_MIN\t\t 1002\n").unwrap();
    assert!(host.lock(1001).unwrap_err().to_string().contains("below 1002"));
    assert_eq!(host.shadow(), SHADOW);
    assert_eq!(host.accounts.list(), []);
}

#[test]
fn files_that_are_not_what_they_should_be_are_left_alone() {
    let host = Host::new();
    let shadow = host.path("shadow");
    for (content, why) in [
        (format!("{SHADOW}\nbob:x:1::::::\n"), "several lines"),
        ("bob:x:1:2:3:4:5:6:7:8:9\n".to_owned(), "cannot be read"),
        (String::new(), "bob has no line"),
    ] {
        fs::write(&shadow, &content).unwrap();
        let error = host.lock(1001).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(host.shadow(), content);
    }
    fs::rename(&shadow, host.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &shadow).unwrap();
    assert!(matches!(host.lock(1001).unwrap_err(), RevokeError::Io { .. }));
    assert!(fs::symlink_metadata(&shadow).unwrap().is_symlink());
    let record = host.folder.path().join("state/revoked/1001.json");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, "{").unwrap();
    fs::remove_file(&shadow).unwrap();
    fs::write(&shadow, SHADOW).unwrap();
    assert!(matches!(host.lock(1001).unwrap_err(), RevokeError::Broken { .. }));
    assert_eq!(host.shadow(), SHADOW);
    assert_eq!(host.accounts.list(), []);
}
