use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::host::{Credentials, Image, Namespaces};

fn process(tgid: u32, executable: &str) -> Process {
    Process {
        id: ProcessId {
            tgid,
            start: BootTime(0),
        },
        parent: None,
        image: Arc::new(Image {
            executable: executable.as_bytes().into(),
            ..Image::default()
        }),
        credentials: Credentials::default(),
        workload: Arc::default(),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    }
}

fn guard() -> Guard {
    let protected = vec!["/opt/edr/*".to_owned(), "/srv/db".to_owned()];
    Guard::new(&config::Respond {
        protected,
        ..config::Respond::default()
    })
}

#[test]
fn what_is_spared() {
    let guard = guard();
    let kernel_thread = Process {
        kernel_thread: true,
        ..process(20, "")
    };
    for (target, refusal) in [
        (process(1, "/bin/sh"), Refusal::Init),
        (process(0, "/bin/sh"), Refusal::KernelThread),
        (kernel_thread, Refusal::KernelThread),
        (process(std::process::id(), "/bin/sh"), Refusal::Sensor),
    ] {
        assert_eq!(guard.check(&target), Err(refusal));
    }
    for path in [
        "/usr/sbin/sshd",
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd-logind",
        "/usr/lib/systemd/systemd-journald",
        "/usr/bin/dbus-daemon",
        "/usr/bin/containerd-shim-runc-v2",
        "/usr/local/bin/k3s",
        "/usr/libexec/podman/conmon",
        "/usr/bin/sensor",
        "/opt/edr/bin/scan",
        "/srv/db",
    ] {
        assert!(
            matches!(guard.check(&process(20, path)), Err(Refusal::Protected(_))),
            "{path}"
        );
    }
    assert_eq!(guard.check_executable(b""), Err(Refusal::Unknown));
}

#[test]
fn what_is_not() {
    let guard = guard();
    for path in [
        "/usr/bin/dash",
        "/tmp/sshd",
        "/home/eve/usr/sbin/sshd",
        "/usr/sbin/sshd2",
        "/usr/bin/../../tmp/sshd",
        "/usr/local/bin/x/kubelet",
        "/srv/db2",
        "…/usr/sbin/sshd",
        "/memfd:sshd",
    ] {
        assert_eq!(guard.check(&process(20, path)), Ok(()), "{path}");
    }
}

#[test]
fn the_processes_that_sensor_came_from() {
    let parent = std::os::unix::process::parent_id();
    let start = ProcDir::open(parent).unwrap().stat().unwrap().start;
    let target = Process {
        id: ProcessId { tgid: parent, start },
        ..process(parent, "/bin/bash")
    };
    let expected = if parent == 1 {
        Refusal::Init
    } else {
        Refusal::Ancestor(parent)
    };
    assert_eq!(guard().check(&target), Err(expected));
    let lax = Guard::new(&config::Respond {
        protect_ancestors: false,
        ..config::Respond::default()
    });
    assert!(parent == 1 || lax.check(&target).is_ok());
}

#[test]
fn programs_are_protected_where_distributions_of_kubernetes_put_them() {
    let guard = guard();
    for path in [
        "/var/lib/rancher/k3s/data/3f1c/bin/containerd-shim-runc-v2",
        "/nix/store/abc-openssh-9.9/bin/sshd",
        "/snap/microk8s/7/bin/runc",
        "/opt/bin/kubelet",
    ] {
        assert!(guard.check_executable(path.as_bytes()).is_err(), "{path}");
    }
    for path in [
        "/var/lib/rancher/k3s/data/a/b/bin/runc",
        "/tmp/nix/store/abc/bin/sshd",
        "/snap/microk8s/bin/runc",
        "/opt/bin/x/kubelet",
        "/nix/store/abc/bin/miner",
    ] {
        assert!(guard.check_executable(path.as_bytes()).is_ok(), "{path}");
    }
    assert!(directories("/usr/*/").contains(&"/usr/bin".into()));
}

#[test]
fn what_a_host_cannot_do_without_is_not_blocked_by_any_name() {
    let guard = guard();
    let check = |path: &Path| guard.check_target(&Target::Executable(path.to_owned()), None);
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    for path in ["/bin/sh".as_ref(), link.as_path()] {
        assert!(
            matches!(check(path), Err(Refusal::Needed(..))),
            "{}",
            path.display()
        );
    }
    assert_eq!(check(&folder.path().join("other")), Ok(()));
}

#[test]
fn what_is_protected_is_so_by_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let [own, hard, soft, copy] = ["own", "hard", "soft", "copy"].map(|name| folder.path().join(name));
    std::fs::write(&own, "x").unwrap();
    std::fs::hard_link(&own, &hard).unwrap();
    std::os::unix::fs::symlink(&hard, &soft).unwrap();
    std::fs::copy(&own, &copy).unwrap();
    let config = config::Respond {
        protected: vec![own.to_str().unwrap().to_owned()],
        ..config::Respond::default()
    };
    let guard = Guard::new(&config);
    for path in [&own, &hard, &soft] {
        for target in [Target::Executable(path.clone()), Target::File(path.clone())] {
            let refused = guard.check_target(&target, None);
            assert!(
                matches!(refused, Err(Refusal::Protected(_))),
                "{target}: {refused:?}"
            );
        }
    }
    assert_eq!(guard.check_target(&Target::File(copy), None), Ok(()));
}

proptest! {
    /// In any minute and any day, no more than allowed; and what is allowed can be had.
    #[test]
    fn rates(gaps in proptest::collection::vec(0..40_u64, 1..200)) {
        let config = config::Respond { max_kills_per_minute: 3, max_kills_per_day: 20, ..config::Respond::default() };
        let mut guard = Guard::new(&config);
        let (mut now, mut taken) = (0, Vec::<u64>::new());
        for gap in gaps {
            now += gap * 1_000_000_000;
            let within = |span: Duration| taken.iter().filter(|at| u128::from(now - **at) < span.as_nanos()).count();
            let allowed = within(MINUTE) < 3 && within(DAY) < 20;
            prop_assert_eq!(guard.take(BootTime(now)).is_ok(), allowed);
            if allowed {
                taken.push(now);
            }
        }
    }
}

/// What root sees under a name, and what somebody who has mounted something there sees, are told apart.
#[test]
fn a_name_in_a_view_of_ones_own_protects_nobody() {
    use std::{os::unix::process::CommandExt as _, process::Command};

    use rustix::{
        mount::mount_bind,
        thread::{UnshareFlags, unshare_unsafe},
    };

    let folder = tempfile::tempdir().unwrap();
    let (guarded, other) = (folder.path().join("guarded"), folder.path().join("other"));
    for path in [&guarded, &other] {
        std::fs::copy("/bin/sleep", path).unwrap();
    }
    let guard = Guard::new(&config::Respond {
        protected: vec![guarded.to_string_lossy().into_owned()],
        ..config::Respond::default()
    });
    let run = |isolated: bool| {
        let (from, to) = (other.clone(), guarded.clone());
        let mut command = Command::new(&guarded);
        // SAFETY: system calls alone, between fork and exec.
        unsafe {
            command.arg("600").pre_exec(move || {
                if isolated {
                    unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
                    mount_bind(&from, &to)?;
                }
                Ok(())
            })
        };
        command.spawn()
    };
    let verdict = |child: &mut std::process::Child| {
        let verdict = guard.check_running(child.id(), guarded.as_os_str().as_bytes());
        child.kill().unwrap();
        child.wait().unwrap();
        verdict
    };
    let mut own = run(false).unwrap();
    assert!(matches!(verdict(&mut own), Err(Refusal::Protected(_))));
    match run(true) {
        Ok(mut impostor) => assert_eq!(verdict(&mut impostor), Ok(())),
        Err(error) => eprintln!("no namespaces for users here: {error}"),
    }
}
