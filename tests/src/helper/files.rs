//! The same with files, many times.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::number;

/// `create-files FOLDER COUNT THREADS PAUSE_MS`: each thread makes so many files, removes each, and pauses in between.
pub(super) fn create(args: &[String]) -> Result<()> {
    let folder = PathBuf::from(args.first().context("no folder is named")?);
    let (count, threads): (u32, u32) = (number(args, 1)?, number(args, 2)?);
    let pause = Duration::from_millis(number(args, 3)?);
    let work = |thread: u32| {
        let folder = folder.clone();
        thread::spawn(move || (0..count).try_for_each(|index| create_one(&folder, thread, index, pause)))
    };
    let threads: Vec<_> = (0..threads).map(work).collect();
    for thread in threads {
        match thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("a thread panicked"),
        }
    }
    Ok(())
}

fn create_one(folder: &Path, thread: u32, index: u32, pause: Duration) -> Result<()> {
    let path = folder.join(format!("{}-{thread}-{index}", std::process::id()));
    File::create_new(&path)?;
    fs::remove_file(path)?;
    thread::sleep(pause);
    Ok(())
}

/// `open-file PATH COUNT MODE`: opens one file so many times, for `read` or `write`.
pub(super) fn open(args: &[String]) -> Result<()> {
    let path = args.first().context("no file is named")?;
    let write = args.get(2).is_some_and(|mode| mode == "write");
    for _ in 0..number(args, 1)? {
        OpenOptions::new().read(!write).write(write).open(path)?;
    }
    Ok(())
}
