//! A disk that is full: nothing is acknowledged that is not stored, and work goes on when there is room again.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    daemon::{Daemon, wait},
    peer::{EACH, Peer},
};

/// A small file system of its own.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128m", "tmpfs"])
            .arg(path)
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(path))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_nothing_but_time() {
    const BATCHES: u64 = 2000;
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("small");
    let Some(_tmpfs) = Tmpfs::mount(&place) else {
        eprintln!("skipped: only root can mount a small disk");
        return;
    };
    let filler = place.join("filler");
    fs::write(&filler, vec![1; 120 << 20]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start_in(folder, place.join("data"), &["--fresh-seconds", "0"]);
    let mut peer = Peer::new(&daemon.url(), "web1");
    let delivering = tokio::spawn(async move { peer.deliver(BATCHES).await });
    wait("the disk to be full", async || {
        let messages = daemon.messages();
        (messages.contains("agents keep what they have") || messages.contains("the lake is left as it is"))
            .then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::remove_file(&filler).unwrap();
    delivering.await.unwrap();
    let total = BATCHES * EACH;
    let counts = daemon.query("select count(*) as n, count(distinct coalesce(filename, path)) as different from events where signal in ('exec', 'file_open')");
    assert_eq!(
        counts.unwrap(),
        format!("{{\"n\":{total},\"different\":{total}}}\n")
    );
    daemon.stop();
}
