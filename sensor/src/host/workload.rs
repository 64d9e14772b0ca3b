//! From the path of a cgroup to what runs in it.
//!
//! The outermost container or unit on the path decides. What is nested below it was made by the thing itself,
//! which could otherwise call itself what it likes: a container's root may make a cgroup that looks
//! like another container, or like `sshd.service`.

use super::Workload;

/// Longest path that is kept.
const PATH_MAX: usize = 1024;

/// Units below which container runtimes keep the containers of a host; what is nested in them may be one.
const RUNTIMES: [&str; 8] = [
    "containerd.service",
    "crio.service",
    "docker.service",
    "k0scontroller.service",
    "k0sworker.service",
    "k3s-agent.service",
    "k3s.service",
    "kubelet.service",
];

impl Workload {
    /// The workload of the cgroup `id` at `path`, from the root of its hierarchy on.
    #[must_use]
    pub fn from_cgroup(id: u64, path: &str) -> Self {
        let path = cut(path);
        let kind = path
            .split('/')
            .filter(|part| !part.is_empty())
            .try_fold(State::default(), State::step);
        let (name, container) = match kind {
            Err(found) => (found.name, found.container),
            Ok(State {
                runtime: Some(runtime),
                ..
            }) => (format!("unit:{runtime}"), None),
            Ok(State { user: Some(user), .. }) => (format!("session:{user}"), None),
            Ok(_) if path.is_empty() || path == "/" => ("host".to_owned(), None),
            Ok(_) => (format!("cgroup:{path}"), None),
        };
        Self {
            name: name.into(),
            cgroup_id: id,
            cgroup: path.into(),
            container: container.map(Into::into),
        }
    }

    /// The workload of a cgroup that is gone before anybody could read its path.
    #[must_use]
    pub fn unresolved(id: u64) -> Self {
        Self {
            name: "unknown".into(),
            cgroup_id: id,
            ..Self::default()
        }
    }
}

struct Found {
    name: String,
    container: Option<String>,
}

/// What the components so far told.
#[derive(Default)]
struct State<'a> {
    before: &'a str,
    /// Below `user-1000.slice`.
    user: Option<&'a str>,
    /// Below `user@1000.service`, where a manager of that user's own makes units.
    manager: bool,
    /// Below a runtime's unit.
    runtime: Option<&'a str>,
}

impl<'a> State<'a> {
    /// Goes one component further; an error ends the search with what was found.
    fn step(mut self, part: &'a str) -> Result<Self, Found> {
        if let Some(container) = container(self.before, part) {
            return Err(container);
        }
        if let Some(user) = part
            .strip_prefix("user-")
            .and_then(|rest| rest.strip_suffix(".slice"))
        {
            self.user.get_or_insert(user);
        } else if part.starts_with("user@") && self.user.is_some() && !self.manager {
            self.manager = true;
        } else if RUNTIMES.contains(&part) && self.user.is_none() {
            self.runtime.get_or_insert(part);
        } else if let Some(unit) = unit(part)
            && self.runtime.is_none()
        {
            return Err(self.in_unit(part, &unit));
        }
        self.before = part;
        Ok(self)
    }

    /// A login session and what a person started from a desktop or a terminal (all of them scopes) count as
    /// that user's sessions: one baseline for a person, not one for each login.
    fn in_unit(&self, part: &str, unit: &str) -> Found {
        let name = match self.user {
            Some(user) if part == "init.scope" => format!("unit:user@{user}.service"),
            Some(user) if part.ends_with(".scope") => format!("session:{user}"),
            Some(user) => format!("unit:{user}/{unit}"),
            None => format!("unit:{unit}"),
        };
        Found {
            name,
            container: None,
        }
    }
}

/// The unit that a component names. Instances of a template share one baseline, and so do transient units:
/// `sshd@3-10.0.0.1:22-10.0.0.2:5000.service` exists once for each connection.
fn unit(part: &str) -> Option<String> {
    let (name, kind) = part.rsplit_once('.')?;
    if !matches!(kind, "service" | "scope" | "socket" | "mount" | "swap") || name.is_empty() {
        return None;
    }
    if let Some((template, _)) = name.split_once('@') {
        return Some(format!("{template}@.{kind}"));
    }
    let transient = name.strip_prefix("run-").is_some_and(|rest| {
        rest.trim_start_matches(['r', 'u', 'p', 'i'])
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b'-')
    });
    Some(if transient {
        format!("run-*.{kind}")
    } else {
        part.to_owned()
    })
}

/// The container that a component, standing below `before`, names.
fn container(before: &str, part: &str) -> Option<Found> {
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    // docker-<id>.scope, cri-containerd-<id>.scope, libpod-<id>.scope, <pod>.slice:cri-containerd:<id>, <id>
    let (prefix, id) = bare.rsplit_once(['-', ':']).unwrap_or(("", bare));
    if is_hex(id, 64) {
        // The monitor belongs to the runtime, not to the container that it watches.
        if prefix.ends_with("conmon") {
            return Some(Found {
                name: format!("unit:{prefix}.scope"),
                container: None,
            });
        }
        return Some(Found {
            name: format!("container:{}", &id[..12]),
            container: Some(id.to_owned()),
        });
    }
    // Amazon ECS on Fargate: /ecs/<task>/<task>-<number>
    if is_hex(prefix, 32) && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Found {
            name: format!("container:{}", &prefix[..12]),
            container: Some(bare.to_owned()),
        });
    }
    let name = lxc(before, part).or_else(|| machine(part))?;
    Some(Found {
        name: format!("container:{name}"),
        container: Some(name),
    })
}

/// `lxc.payload.<name>`, `lxc.payload/<name>`, `lxc/<name>`.
fn lxc(before: &str, part: &str) -> Option<String> {
    let name = match (part.strip_prefix("lxc.payload."), before) {
        (Some(name), _) => name,
        (None, "lxc" | "lxc.payload") => part,
        _ => return None,
    };
    (!name.is_empty()).then(|| name.to_owned())
}

/// systemd-nspawn and other machines: `systemd-nspawn@web.service`, `machine-web.scope`. Virtual machines
/// (`machine-qemu…`) are the host's own processes and stay units.
fn machine(part: &str) -> Option<String> {
    let name = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|rest| rest.strip_suffix(".service"))
        .or_else(|| {
            part.strip_prefix("machine-")
                .and_then(|rest| rest.strip_suffix(".scope"))
        })?;
    let name = unescape(name);
    (!name.is_empty() && !name.starts_with("qemu") && !name.starts_with("lxc-")).then_some(name)
}

/// systemd writes special characters as `\x2d`.
fn unescape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        text.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_graphic() => {
                text.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                text.push_str("\\x");
                rest = after;
            }
        }
    }
    text + rest
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn cut(path: &str) -> &str {
    let mut end = path.len().min(PATH_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a9c1be77d0456789abcdef0123456789abcdef0123456789abcdef0123456";

    fn name(path: &str) -> String {
        Workload::from_cgroup(7, &path.replace("<id>", ID)).name.into()
    }

    #[test]
    fn containers() {
        for path in [
            "/docker/<id>",
            "/docker/<id>/init.scope",
            "/system.slice/docker-<id>.scope",
            "/system.slice/docker-<id>.scope/system.slice/sshd.service",
            "/system.slice/nerdctl-<id>.scope",
            "/default/<id>",
            "/actions_job/<id>",
            "/ecs/0a1b2c3d-task/<id>",
            "/kubepods/besteffort/pod8f6e2c1a-1111-2222-3333-444455556666/<id>",
            "/kubepods/pod8f6e2c1a-1111-2222-3333-444455556666/<id>",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8f6e_2c1a.slice/cri-containerd-<id>.scope",
            "/kubepods.slice/kubepods-pod8f6e.slice/crio-<id>.scope",
            "/kubepods.slice/kubepods-pod8f6e.slice/docker-<id>.scope",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod8f.slice/cri-containerd-<id>.scope",
            "/system.slice/containerd.service/kubepods-besteffort-pod8f.slice:cri-containerd:<id>",
            "/machine.slice/libpod-<id>.scope",
            "/machine.slice/libpod-<id>.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<id>.scope",
            "/libpod_parent/libpod-<id>",
            "/system.slice/k3s.service/kubepods/besteffort/pod8f6e2c1a/<id>",
            "/docker/<id>/docker/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert_eq!(name(path), "container:3f2a9c1be77d", "{path}");
        }
        let workload = Workload::from_cgroup(7, &format!("/docker/{ID}"));
        assert_eq!(workload.container.as_deref(), Some(ID));
        assert_eq!(workload.cgroup_id, 7);
    }

    #[test]
    fn everything_else() {
        for (path, expected) in [
            ("", "host"),
            ("/", "host"),
            ("/init.scope", "unit:init.scope"),
            ("/system.slice", "cgroup:/system.slice"),
            ("/system.slice/nginx.service", "unit:nginx.service"),
            ("/system.slice/containerd.service", "unit:containerd.service"),
            (
                "/system.slice/containerd.service/worker",
                "unit:containerd.service",
            ),
            ("/system.slice/nginx.service/worker", "unit:nginx.service"),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                "unit:getty@.service",
            ),
            (
                "/system.slice/system-postgresql.slice/postgresql@15-main.service",
                "unit:postgresql@.service",
            ),
            (
                "/system.slice/sshd@4-10.0.0.1:22-10.0.0.2:50122.service",
                "unit:sshd@.service",
            ),
            ("/system.slice/run-u42.service", "unit:run-*.service"),
            ("/system.slice/run-r0a1b2c3d4e5f.scope", "unit:run-*.scope"),
            (
                "/system.slice/run-docker-netns.mount",
                "unit:run-docker-netns.mount",
            ),
            (
                "/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service",
                "unit:serial-getty@.service",
            ),
            ("/user.slice/user-1000.slice/session-3.scope", "session:1000"),
            ("/user.slice/user-0.slice/session-c1.scope", "session:0"),
            ("/user.slice/user-1000.slice", "session:1000"),
            (
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
                "unit:user@1000.service",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service",
                "unit:1000/dbus.service",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-2211.scope",
                "session:1000",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1a2b.scope",
                "session:1000",
            ),
            (
                "/machine.slice/systemd-nspawn@web.service/payload",
                "container:web",
            ),
            ("/machine.slice/machine-my\\x2dweb.scope", "container:my-web"),
            (
                "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt",
                "unit:machine-qemu\\x2d1\\x2dvm.scope",
            ),
            ("/lxc.payload.web/system.slice/nginx.service", "container:web"),
            ("/lxc/web/init.scope", "container:web"),
            ("/lxc.monitor.web", "cgroup:/lxc.monitor.web"),
            (
                "/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-123456",
                "container:0123456789ab",
            ),
            (
                "/machine.slice/libpod-conmon-<id>.scope",
                "unit:libpod-conmon.scope",
            ),
            (
                "/kubepods.slice/kubepods-pod8f6e.slice/crio-conmon-<id>.scope",
                "unit:crio-conmon.scope",
            ),
            (
                "/kubepods/besteffort/pod8f6e2c1a",
                "cgroup:/kubepods/besteffort/pod8f6e2c1a",
            ),
            ("/my/batch", "cgroup:/my/batch"),
            (
                "/batch/97a37fa25916295ba7506adb09ec09e6",
                "cgroup:/batch/97a37fa25916295ba7506adb09ec09e6",
            ),
            ("/.service", "cgroup:/.service"),
            ("/..", "cgroup:/.."),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }

    #[test]
    fn a_service_cannot_pose_as_a_container_or_another_unit() {
        assert_eq!(
            name("/system.slice/evil.service/docker/<id>"),
            "unit:evil.service"
        );
        assert_eq!(name("/docker/<id>/sshd.service"), "container:3f2a9c1be77d");
    }

    #[test]
    fn long_paths_are_cut_between_characters() {
        let workload = Workload::from_cgroup(1, &format!("/{}", "é".repeat(2000)));
        assert!(workload.cgroup.len() <= PATH_MAX);
    }
}
