//! What is normal: a web server that is asked for pages, a job by the clock, a person at work, a database, logs that are rotated, packages.

use std::{process::Command, thread, time::Duration};

use anyhow::Result;

use super::{run, world::World};

/// A first quarter of a minute.
pub(super) fn play(world: &World) -> Result<()> {
    rounds(world, &[3, 1, 4, 1, 5, 9, 2, 6], 5)
}

/// Another, in which the same is done at other times and in another order.
pub(super) fn play_too(world: &World) -> Result<()> {
    rounds(world, &[2, 7, 1, 8, 2, 8, 1, 8], 3)
}

fn rounds(world: &World, pauses: &[u64], turn: usize) -> Result<()> {
    for (round, pause) in pauses.iter().enumerate() {
        for page in 0..=pause % 4 {
            world.get(&format!("{page}.html"))?;
        }
        match (round * turn) % 6 {
            0 => works(world)?,
            1 => world.service(
                "sensor-cron.service",
                "find www -type f | wc -l > count; sleep 0.1",
            )?,
            2 => database(world)?,
            3 => rotates(world)?,
            4 => packages(world)?,
            _ => works_more(world)?,
        }
        thread::sleep(Duration::from_millis(pause * 170));
    }
    Ok(())
}

fn works(world: &World) -> Result<()> {
    world.user("ls -l; cat hello.c; gcc -o hello hello.c; ./hello; rm hello; grep -r main . | wc -l")
}

fn works_more(world: &World) -> Result<()> {
    world.user("date; ls; cp hello.c copy.c; sed -i s/0/1/ copy.c; diff hello.c copy.c; rm copy.c; curl -s -m 1 telnet://198.51.100.30:443 < /dev/null; true")
}

fn database(world: &World) -> Result<()> {
    world.service(
        "sensor-db.service",
        "sqlite3 store.db 'create table if not exists t(x); insert into t values(1); delete from t where rowid % 7 = 0;'; \
         exec 3<>/dev/tcp/198.51.100.20/5432; echo sync >&3",
    )
}

fn rotates(world: &World) -> Result<()> {
    world.service(
        "sensor-logrotate.service",
        "mv access.log access.log.1 2> /dev/null; gzip -f access.log.1 2> /dev/null; true",
    )
}

/// Made, listed and unpacked, as a package manager would.
fn packages(world: &World) -> Result<()> {
    let folder = world.folder().join("package");
    std::fs::create_dir_all(folder.join("DEBIAN"))?;
    let control = "Package: sensor-test\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: nothing\n";
    std::fs::write(folder.join("DEBIAN/control"), control)?;
    let made = world.folder().join("package.deb");
    let [folder, made] = [folder, made].map(|path| path.to_string_lossy().into_owned());
    super::play(Command::new("/usr/bin/dpkg-deb").args(["-b", &folder, &made]))?;
    run(
        "/usr/bin/dpkg-deb",
        &["-x", &made, &world.folder().join("unpacked").to_string_lossy()],
    )
}
