//! Where scenarios are played: a web server in a unit, a person's session, and hosts at the other end of a cable.
//!
//! The other hosts are a network namespace of this one, so that nothing leaves the machine. Everything is undone when it is dropped.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::run;
use crate::{
    cgroup::Cgroup,
    command::{helper, spawn},
};

/// What scenarios need beside this program.
const PROGRAMS: [&str; 10] = [
    "/usr/sbin/ip",
    "/usr/bin/nsenter",
    "/usr/bin/unshare",
    "/usr/bin/setpriv",
    "/usr/bin/bash",
    "/usr/bin/curl",
    "/usr/bin/gcc",
    "/usr/bin/perl",
    "/usr/bin/sqlite3",
    "/usr/bin/tar",
];

/// Whom the person is.
pub(super) const USER: u32 = 4242;

/// Where the web server listens.
pub(super) const WEB: &str = "127.0.0.1:18080";

/// Other hosts: those that everybody asks, and those of whoever attacks.
const OURS: &str = "198.51.100";
const THEIRS: &str = "203.0.113";

/// The place.
pub struct World {
    folder: TempDir,
    /// In the order in which they are ended.
    running: Vec<Child>,
    web: Cgroup,
    session: Cgroup,
}

impl World {
    /// What has to be installed for scenarios to be played.
    #[must_use]
    pub fn missing() -> Vec<&'static str> {
        let programs = PROGRAMS.into_iter();
        programs.filter(|program| !Path::new(program).exists()).collect()
    }

    /// Builds it; `None` where a program is missing or the kernel has no namespaces for it.
    pub(super) fn build() -> Result<Option<Self>> {
        if !Self::missing().is_empty() {
            return Ok(None);
        }
        let mut world = Self {
            folder: tempfile::Builder::new()
                .prefix("sensor-world")
                .tempdir_in("/var/tmp")?,
            running: Vec::new(),
            web: Cgroup::new("sensor-web.service")?,
            session: Cgroup::new(&format!("user.slice/user-{USER}.slice/session-9.scope"))?,
        };
        world.furnish()?;
        world.connect()?;
        world.serve()?;
        Ok(Some(world))
    }

    /// A folder that everybody may read.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The person's own folder.
    pub(super) fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// What the person types.
    pub(super) fn user(&self, script: &str) -> Result<()> {
        let mut command = helper("login-uid")?;
        let user = USER.to_string();
        command
            .args([
                &*user,
                "/usr/bin/setpriv",
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
            ])
            .args(["/usr/bin/bash", "-c", script])
            .current_dir(self.home());
        super::play(self.session.enter(&mut command))
    }

    /// A script in a service of its own.
    pub(super) fn service(&self, unit: &str, script: &str) -> Result<()> {
        let cgroup = Cgroup::new(unit)?;
        let mut command = Command::new("/usr/bin/bash");
        command.args(["-c", script]).current_dir(self.folder());
        super::play(cgroup.enter(&mut command))
    }

    /// Asks the web server for a page.
    pub(super) fn get(&self, page: &str) -> Result<()> {
        run(
            "/usr/bin/curl",
            &["-s", "-o", "/dev/null", &format!("http://{WEB}/{page}")],
        )
    }

    /// Uses the hole in the web server.
    pub(super) fn exploit(&self, script: &str) -> Result<()> {
        run(
            "/usr/bin/curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "--max-time",
                "60",
                "--data-binary",
                script,
                &format!("http://{WEB}/run"),
            ],
        )
    }

    /// What is there already.
    fn furnish(&self) -> Result<()> {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let folder = self.folder();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        for name in ["www", "home", "share"] {
            fs::create_dir(folder.join(name))?;
        }
        for name in ["wtmp", "btmp"] {
            fs::write(folder.join(name), "")?;
        }
        for page in 0..5 {
            fs::write(folder.join(format!("www/{page}.html")), "x".repeat(2_000))?;
        }
        for file in 0..400 {
            fs::write(folder.join(format!("share/report-{file}.doc")), "y".repeat(500))?;
        }
        fs::write(folder.join("home/hello.c"), "int main(void) { return 0; }\n")?;
        let owner = format!("{USER}:{USER}");
        run("/usr/bin/chown", &["-R", &owner, &self.home().to_string_lossy()])
    }

    /// The cable, and whoever listens at its other end.
    fn connect(&mut self) -> Result<()> {
        let mut namespace = Command::new("/usr/bin/unshare");
        namespace.args(["--net", "/usr/bin/sleep", "3600"]);
        let namespace = spawn(namespace.stdin(Stdio::null()))?;
        let pid = namespace.id().to_string();
        self.running.push(namespace);
        // It has its namespace when it has become `sleep`.
        let comm = format!("/proc/{pid}/comm");
        crate::patience::wait_for("a network namespace", crate::patience::patience(10), || {
            Ok((std::fs::read_to_string(&comm)?.trim() == "sleep").then_some(()))
        })?;
        let _ = run("/usr/sbin/ip", &["link", "del", "sensor-t0"]);
        run(
            "/usr/sbin/ip",
            &[
                "link",
                "add",
                "sensor-t0",
                "type",
                "veth",
                "peer",
                "name",
                "sensor-t1",
                "netns",
                &pid,
            ],
        )?;
        for network in [OURS, THEIRS] {
            run(
                "/usr/sbin/ip",
                &["addr", "add", &format!("{network}.1/24"), "dev", "sensor-t0"],
            )?;
        }
        run("/usr/sbin/ip", &["link", "set", "sensor-t0", "up"])?;
        let inside = |arguments: &[&str]| {
            let mut all = vec!["-t", &*pid, "-n", "/usr/sbin/ip"];
            all.extend(arguments);
            run("/usr/bin/nsenter", &all)
        };
        for host in ["20", "30", "41", "42", "43", "44", "45", "46"] {
            inside(&["addr", "add", &format!("{OURS}.{host}/24"), "dev", "sensor-t1"])?;
        }
        inside(&["addr", "add", &format!("{THEIRS}.66/24"), "dev", "sensor-t1"])?;
        inside(&["link", "set", "sensor-t1", "up"])?;
        let ssh: Vec<String> = (41..47).map(|host| format!("{OURS}.{host}:22")).collect();
        let mut plain: Vec<String> = ["20:5432", "30:443"].map(|end| format!("{OURS}.{end}")).into();
        plain.extend(["443", "3333", "8443"].map(|port| format!("{THEIRS}.66:{port}")));
        plain.extend(ssh);
        self.listen(&pid, "", &plain)?;
        self.listen(&pid, "id\\nuname -a\\nexit\\n", &[format!("{THEIRS}.66:4444")])
    }

    fn listen(&mut self, pid: &str, text: &str, addresses: &[String]) -> Result<()> {
        let sink = helper("sink")?;
        let mut command = Command::new("/usr/bin/nsenter");
        command
            .args(["-t", pid, "-n"])
            .arg(sink.get_program())
            .args(sink.get_args())
            .arg(text)
            .args(addresses);
        self.start(command)
    }

    fn serve(&mut self) -> Result<()> {
        let mut command = helper("web")?;
        command.arg(WEB).arg(self.folder());
        self.web.enter(&mut command);
        self.start(command)
    }

    /// Starts something that runs as long as the world, and waits until it is ready.
    fn start(&mut self, mut command: Command) -> Result<()> {
        let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = child.stdout.take().context("it has no output")?;
        self.running.push(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        anyhow::ensure!(line == "ready\n", "{command:?} is not ready: {line:?}");
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        while let Some(mut child) = self.running.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
