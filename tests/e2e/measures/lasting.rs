//! What was done holds although the host starts anew, and although somebody takes it apart.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use sensor_proto::v1::{Filter, entry};
use sensor_tests::{
    agent::Agent,
    bpf,
    patience::{patience, wait_for},
    stream::Stream,
    tiny,
};

use super::{Bpffs, acts, done, respond, say};
use crate::knowledge::ask;

/// A host that starts anew has no verdicts; the audit has what was to hold.
pub(super) fn forgotten() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let config = format!("[respond]\nbpffs = {:?}\n", bpffs.path());
    let mut agent = Agent::start(&config, None)?;
    let folder = agent.folder().canonicalize()?;
    let (program, other, file) = (folder.join("program"), folder.join("other"), folder.join("file"));
    tiny::write(&program)?;
    tiny::write(&other)?;
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path");
    let (path, other_path) = (path(&program)?, path(&other)?);
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let number = respond(&agent, &["block", &path, "--for", "1h"])?;
    let lifted = respond(&agent, &["block", &other_path, "--for", "1h"])?;
    done(&stream, &number)?;
    done(&stream, &lifted)?;
    let undone = respond(&agent, &["undo", &lifted])?;
    done(&stream, &undone)?;
    // Its time is over while there is no agent.
    let network = respond(&agent, &["block", "198.51.100.0/24", "--for", "4s"])?;
    agent.daemon().kill()?;
    unmount(bpffs.path(), UnmountFlags::DETACH)?;
    wait_for("the kernel to forget", patience(10), || {
        Ok(acts(&program, &file)?.then_some(()))
    })?;
    sleep(Duration::from_secs(4));

    agent.revive(&config)?;
    wait_for("it to be refused again", patience(10), || {
        Ok((!acts(&program, &file)?).then_some(()))
    })?;
    ensure!(acts(&other, &file)?, "what was undone is refused again");
    let holding = wait_for("what is refused", patience(10), || {
        let said = ask(&agent, &["respond", "holding"])?;
        Ok(said.contains(&path).then_some(said))
    })?;
    ensure!(
        holding.contains(&format!("{number}: executable {path}; ends in 59m")),
        "{holding}"
    );
    let history = wait_for("all of it to be told", patience(10), || {
        let history = ask(&agent, &["respond", "history"])?;
        Ok(history.contains("its time was over before").then_some(history))
    })?;
    for told in [
        format!(" {number}: block {path}: done, the kernel had forgotten it"),
        format!(
            " {network}: block 198.51.100.0/24: its time is over, its time was over before the agent began again"
        ),
    ] {
        ensure!(history.contains(&told), "{told}: {history}");
    }
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    ensure!(acts(&program, &file)?, "it is refused still");
    Ok(())
}

/// Whoever is root can take programs off their hooks, and their names out of the file system.
pub(super) fn tampered() -> Result<()> {
    let (bpffs, before) = (Bpffs::new()?, bpf::cgroup_links()?);
    let agent = Agent::start(&format!("[respond]\nbpffs = {:?}\n", bpffs.path()), None)?;
    let others = bpf::cgroup_links()?;
    let folder = agent.folder().canonicalize()?;
    let (program, file) = (folder.join("program"), folder.join("file"));
    tiny::write(&program)?;
    let path = program.to_str().context("a path")?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let block = respond(&agent, &["block", path, "--for", "1h"])?;
    let network = respond(&agent, &["block", "198.51.100.0/24", "--for", "1h"])?;
    done(&stream, &block)?;
    done(&stream, &network)?;
    ensure!(!acts(&program, &file)?, "it ran");
    let ours = || -> Result<Vec<(u32, u32)>> {
        let mut links = bpf::cgroup_links()?;
        links.retain(|link| !before.contains(link) && !others.contains(link));
        Ok(links)
    };
    let told = |what: &str| {
        stream.wait_for("an incident", |entry| match &entry.body {
            Some(entry::Body::Incident(incident)) if incident.summary.contains(what) => {
                Some(incident.clone())
            }
            _ => None,
        })
    };
    // The names.
    let names = bpffs.path().join("sensor");
    let (attached, kept) = (ours()?, listed(&names)?);
    ensure!(!attached.is_empty() && !kept.is_empty(), "{attached:?} {kept:?}");
    fs::remove_dir_all(&names)?;
    wait_for("the names to be there again", patience(15), || {
        Ok((listed(&names)? == kept).then_some(()))
    })?;
    let incident = told("tampered with what the kernel refuses")?;
    ensure!(
        incident.subject == "host" && incident.summary.contains("all that was refused is refused again"),
        "{incident:#?}"
    );
    ensure!(!acts(&program, &file)?, "it ran");
    // The programs.
    let now = wait_for("the former programs to go", patience(15), || {
        let links = ours()?;
        Ok((links.len() == attached.len()).then_some(links))
    })?;
    bpf::detach(now[0].0)?;
    wait_for("the program to be attached again", patience(15), || {
        let links = ours()?;
        Ok((links.len() == attached.len() && links != now).then_some(()))
    })?;
    ensure!(!acts(&program, &file)?, "it ran");
    // What is in the maps.
    let mut taken = 0;
    for map in &kept {
        match map.file_name().and_then(std::ffi::OsStr::to_str) {
            Some("V_FILES") => taken += bpf::empty_map(map, 16)?,
            Some("V_PATHS") => taken += bpf::empty_map(map, 256)?,
            _ => {}
        }
    }
    ensure!(taken == 3, "{taken} entries were taken out");
    wait_for("it to be refused again", patience(15), || {
        Ok((!acts(&program, &file)?).then_some(()))
    })?;
    // It is refused as soon as its verdict is back, and listed once all of them are.
    wait_for("all of it to be listed again", patience(10), || {
        let holding = ask(&agent, &["respond", "holding"])?;
        let is_listed = |number: &&String| holding.contains(&format!("{number}: "));
        Ok([&block, &network].iter().all(is_listed).then_some(()))
    })?;
    for what in [path, "198.51.100.0/24"] {
        let undone = respond(&agent, &["unblock", what])?;
        done(&stream, &undone)?;
    }
    ensure!(acts(&program, &file)?, "it is refused still");
    let (code, said) = say(&agent, &["undo", &block])?;
    ensure!(code == Some(1) && said.contains("holds no more"), "{said}");
    Ok(())
}

/// What is below a folder.
fn listed(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    Ok(found)
}
