use std::{
    fs,
    io::Cursor,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use sha2::{Digest as _, Sha256};

use super::{
    bundle::{Writer, header, padding},
    manifest::{MANIFEST, SIGNATURE, VERSION},
    seal::Seal,
    *,
};
use crate::{
    hex::hex,
    host::proc::ProcDir,
    respond::Refusal,
    time::{BootTime, WallTime},
};

const PARTS: [(&str, &[u8]); 3] = [
    ("maps", b"one two three"),
    ("empty", b""),
    ("executable", &[7; 700]),
];

fn manifest(key: &HostKey) -> Manifest {
    Manifest {
        version: VERSION,
        sensor: "0".into(),
        host: "h".into(),
        kernel: "6".into(),
        began_ns: 1,
        ended_ns: 2,
        who: "uid 0".into(),
        why: String::new(),
        incident: String::new(),
        target: Target::default(),
        paused: Paused::Stopped,
        parts: Vec::new(),
        total: 0,
        missing: Vec::new(),
        memory: Vec::new(),
        key: key.public().to_string(),
    }
}

fn bundle(key: &HostKey) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), 1 << 20).unwrap();
    for (name, content) in PARTS {
        writer.whole(name, content, None).unwrap();
    }
    let (bytes, digest, size) = writer.finish(&mut manifest(key), key).unwrap();
    assert_eq!((hex(&Sha256::digest(&bytes)), bytes.len() as u64), (digest, size));
    bytes
}

/// Names and contents.
type Parts = Vec<(String, Vec<u8>)>;

/// The parts of a bundle, manifest and signature among them.
fn parts(bundle: &[u8]) -> Parts {
    let content = zstd::stream::decode_all(bundle).unwrap();
    let mut archive = tar::Archive::new(&content[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    });
    entries.collect()
}

/// A bundle of these parts as they are, sealed with `key`.
fn sealed(parts: &[(String, Vec<u8>)], key: &HostKey) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, bytes) in parts {
        content.extend(header(name, bytes.len() as u64).unwrap().as_bytes());
        content.extend(bytes);
        content.extend(vec![0; padding(bytes.len() as u64)]);
    }
    content.extend([0; 1024]);
    let mut bytes = zstd::stream::encode_all(&content[..], 3).unwrap();
    let digest = Sha256::digest(&bytes).into();
    bytes.extend(Seal::new(key, &digest).to_bytes());
    bytes
}

fn findings(bytes: &[u8], key: Option<&HostKey>) -> Vec<Finding> {
    let key = key.map(HostKey::public);
    verify(Cursor::new(bytes), key.as_ref()).unwrap().findings
}

#[test]
fn a_bundle_is_intact_and_every_tool_can_open_it() {
    let key = HostKey::of_seed(1);
    let bytes = bundle(&key);
    let report = verify(Cursor::new(&bytes), Some(&key.public())).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.sha256, hex(&Sha256::digest(&bytes)));
    assert_eq!(report.manifest.unwrap().total, 713);
    let parts = parts(&bytes);
    let names: Vec<&str> = parts.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["maps", "empty", "executable", MANIFEST, SIGNATURE]);
    assert_eq!(parts[2].1, [7; 700]);
    assert_eq!(findings(&bytes, None), []);
}

#[test]
fn whichever_bit_is_flipped_it_is_found() {
    let key = HostKey::of_seed(1);
    let mut bytes = bundle(&key);
    for at in 0..bytes.len() {
        let bit = 1 << (at % 8);
        bytes[at] ^= bit;
        // Without a key less is known, and what is looked at is the same.
        let key = (at % 8 != 0).then_some(&key);
        assert_ne!(findings(&bytes, key), [], "byte {at}, {bit:#x}");
        bytes[at] ^= bit;
    }
}

#[test]
fn wherever_it_is_cut_off_or_added_to_it_is_found() {
    let key = HostKey::of_seed(1);
    let bytes = bundle(&key);
    for length in (0..bytes.len()).step_by(7) {
        assert_ne!(findings(&bytes[..length], Some(&key)), [], "{length} bytes");
    }
    for more in [&b"\0"[..], &bytes, &[0; 512]] {
        assert_ne!(findings(&[&bytes, more].concat(), None), []);
        assert_ne!(findings(&[more, &bytes].concat(), None), []);
    }
}

#[test]
fn it_is_said_which_part_is_not_what_it_was() {
    let key = HostKey::of_seed(1);
    let original = parts(&bundle(&key));
    let part = |name: &str| name.to_owned();
    let check = |change: &dyn Fn(&mut Parts), expected: &[Finding]| {
        let mut parts = original.clone();
        change(&mut parts);
        // Whoever has the key could sign a manifest that fits; this is about one that does not.
        assert_eq!(findings(&sealed(&parts, &key), Some(&key)), expected);
    };
    check(&|_| {}, &[]);
    check(
        &|parts| parts[0].1[3] ^= 1,
        &[Finding::Altered { part: part("maps") }],
    );
    check(
        &|parts| parts[0].1.push(1),
        &[Finding::Altered { part: part("maps") }],
    );
    check(
        &|parts| parts[2].1.truncate(9),
        &[Finding::Truncated {
            part: part("executable"),
            size: 9,
            expected: 700,
        }],
    );
    check(
        &|parts| drop(parts.remove(1)),
        &[Finding::Missing { part: part("empty") }],
    );
    check(
        &|parts| parts.insert(1, (part("more"), vec![1])),
        &[Finding::Added { part: part("more") }],
    );
    check(
        &|parts| parts.push((part("maps"), b"twice".to_vec())),
        &[Finding::Added { part: part("maps") }],
    );
    check(
        &|parts| parts.swap(0, 1),
        &[
            Finding::Reordered { part: part("empty") },
            Finding::Reordered { part: part("maps") },
        ],
    );
    check(&|parts| parts.truncate(3), &[Finding::NoManifest]);
    check(&|parts| drop(parts.pop()), &[Finding::ManifestAltered]);
    check(&|parts| parts[3].1.push(b' '), &[Finding::ManifestAltered]);
}

#[test]
fn anothers_seal_is_not_the_hosts() {
    let (key, other) = (HostKey::of_seed(1), HostKey::of_seed(2));
    let parts = parts(&bundle(&key));
    let resealed = sealed(&parts, &other);
    let of_other = Finding::OtherKey {
        what: "the file",
        key: other.public().to_string(),
    };
    assert_eq!(findings(&resealed, Some(&key)), [of_other]);
    assert!(findings(&resealed, None).contains(&Finding::ManifestAltered));
    let forged = bundle(&other);
    assert_eq!(findings(&forged, None), [], "whose key it is cannot be known");
    assert_ne!(findings(&forged, Some(&key)), []);
}

#[test]
fn what_would_take_too_much_is_refused() {
    let key = HostKey::of_seed(1);
    let seal = |bytes: Vec<u8>| {
        let digest = Sha256::digest(&bytes).into();
        [&bytes[..], &Seal::new(&key, &digest).to_bytes()].concat()
    };
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    io::Write::write_all(&mut wide, &vec![0; 4 << 20]).unwrap();
    let mut many = Vec::new();
    for _ in 0..10_000 {
        many.extend(header("x", 0).unwrap().as_bytes());
    }
    let mut huge = header(MANIFEST, 1 << 40).unwrap().as_bytes().to_vec();
    huge.extend([b'{'; 4096]);
    let pack = |content: &[u8]| zstd::stream::encode_all(content, 1).unwrap();
    for (bytes, why) in [
        (wide.finish().unwrap(), "memory"),
        (pack(&many), "more parts"),
        (pack(&huge), "too long"),
        (pack(&[b'x'; 2048]), "numeric field"),
        (b"no bundle at all".to_vec(), "frame"),
    ] {
        let findings = findings(&seal(bytes), None);
        let Finding::Damaged { why: said, .. } = &findings[0] else {
            panic!("{why}: {findings:?}");
        };
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn keys_are_read_strictly() {
    let key = HostKey::of_seed(1).public();
    assert_eq!(key.to_string().parse(), Ok(key));
    assert_eq!(format!(" {key}\n").parse(), Ok(key));
    for text in [
        "",
        "00",
        &"0".repeat(63),
        &"g".repeat(64),
        &format!("+{}", &key.to_string()[1..]),
        &"é".repeat(32),
    ] {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
}

#[test]
fn a_host_has_one_key_that_nobody_else_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let key = HostKey::open(&state).unwrap();
    assert_eq!(HostKey::open(&state).unwrap().public(), key.public());
    let secret = state.join("forensics.key");
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    let public = fs::read_to_string(state.join("forensics.pub")).unwrap();
    assert_eq!(public.parse(), Ok(key.public()));
    assert_eq!(fs::read_dir(&state).unwrap().count(), 2);
    let refused = |why: &str| {
        let error = HostKey::open(&state).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    };
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    refused("others may know it");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&secret, [1; 31]).unwrap();
    refused("32 bytes");
    fs::remove_file(&secret).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &secret).unwrap();
    refused("cannot use the key");
}

/// A process to look at, which ends with this.
struct Suspect(Child);

impl Suspect {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").env("API_TOKEN", "hunter2-in-the-environment");
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let suspect = Self(child);
        // Until it has executed: the child of a fork has this program's executable.
        while !ProcDir::open(suspect.0.id())
            .unwrap()
            .executable()
            .0
            .ends_with(b"sleep")
        {
            std::thread::yield_now();
        }
        suspect
    }

    fn id(&self) -> ProcessId {
        ProcessId {
            tgid: self.0.id(),
            start: self.stat().start,
        }
    }

    fn stat(&self) -> crate::host::proc::Stat {
        ProcDir::open(self.0.id()).unwrap().stat().unwrap()
    }

    fn is_stopped(&self) -> bool {
        self.stat().state == b'T'
    }

    fn request(&self, options: Options) -> Request {
        Request {
            target: self.id(),
            who: "uid 0".into(),
            why: "a test".into(),
            incident: String::new(),
            host: "../a host".into(),
            events: Some(b"{}\n".to_vec()),
            options,
            stop: Arc::default(),
        }
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn take(request: Request, directory: &Path) -> Result<Bundle, ForensicsError> {
    collect(request, directory, &HostKey::of_seed(1), |_| Ok(()))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn the_evidence_of_a_process() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("evidence");
    let suspect = Suspect::start();
    let mut options = Options::default();
    options.memory.insert(Region::Stack);
    let bundle = take(suspect.request(options), &directory).unwrap();
    assert!(!suspect.is_stopped());
    assert_eq!(bundle.manifest.paused, Paused::Stopped);
    assert_eq!(bundle.manifest.missing, []);
    let about = fs::metadata(&bundle.path).unwrap();
    assert_eq!((about.mode() & 0o777, about.len()), (0o600, bundle.size));
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    assert!(bundle.path.starts_with(&directory), "{}", bundle.path.display());
    let bytes = fs::read(&bundle.path).unwrap();
    assert_eq!(hex(&Sha256::digest(&bytes)), bundle.sha256);
    assert_eq!(findings(&bytes, Some(&HostKey::of_seed(1))), []);
    let parts = parts(&bytes);
    let content = |name: &str| &parts.iter().find(|(part, _)| part == name).unwrap().1;
    assert_eq!(
        *content("executable"),
        fs::read(format!("/proc/{}/exe", suspect.0.id())).unwrap()
    );
    let text = |name: &str| String::from_utf8_lossy(content(name)).into_owned();
    assert!(text("arguments.json").contains("\"600\""));
    assert!(text("environment.json").contains("API_TOKEN=<redacted 26 bytes"));
    assert!(text("family.jsonl").contains("\"relation\":\"self\""));
    assert!(text("descriptors.jsonl").contains("/dev/null"));
    assert!(text("proc/status").starts_with("Name:\tsleep"));
    let secret = b"hunter2-in-the-environment";
    let has_secret = |content: &[u8]| content.windows(secret.len()).any(|window| window == secret);
    for (name, content) in &parts {
        assert_eq!(has_secret(content), name.starts_with("memory/"), "{name}");
    }
}

#[test]
fn who_was_stopped_before_stays_stopped_and_who_is_protected_runs_on() {
    let folder = tempfile::tempdir().unwrap();
    let suspect = Suspect::start();
    let request = suspect.request(Options::default());
    let protected = |_: &[u8]| Err(Refusal::Protected("/usr/sbin/sshd".into()));
    let bundle = collect(request, folder.path(), &HostKey::of_seed(1), protected).unwrap();
    assert_eq!(
        bundle.manifest.paused,
        Paused::Not("/usr/sbin/sshd is on the protected list".into())
    );
    let pid = rustix::process::Pid::from_child(&suspect.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    while !suspect.is_stopped() {
        std::thread::yield_now();
    }
    let bundle = take(suspect.request(Options::default()), folder.path()).unwrap();
    assert_eq!(bundle.manifest.paused, Paused::Before);
    assert!(suspect.is_stopped());
}

#[test]
fn what_fails_leaves_nothing_behind_and_the_process_running() {
    let folder = tempfile::tempdir().unwrap();
    let suspect = Suspect::start();
    let mut options = Options::default();
    options.memory.insert(Region::Writable);
    let request = suspect.request(options);
    let stop = Arc::clone(&request.stop);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = take(request, folder.path()).unwrap_err();
    assert!(matches!(error, ForensicsError::Stopped), "{error}");
    assert!(!suspect.is_stopped() && is_empty(folder.path()));

    let of_another = Request {
        target: ProcessId {
            start: BootTime(suspect.id().start.0 + 10_000_000),
            ..suspect.id()
        },
        ..suspect.request(Options::default())
    };
    let error = take(of_another, folder.path()).unwrap_err();
    assert!(matches!(error, ForensicsError::Gone { .. }), "{error}");

    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = take(suspect.request(Options::default()), folder.path()).unwrap_err();
    assert!(matches!(error, ForensicsError::Directory { .. }), "{error}");
    assert!(!suspect.is_stopped() && is_empty(folder.path()));
}

#[test]
fn init_threads_of_the_kernel_and_sensor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let suspect = Suspect::start();
    for (pid, why) in [
        (0, "kernel"),
        (1, "process 1"),
        (2, "kernel"),
        (std::process::id(), "sensor itself"),
    ] {
        let stat = ProcDir::open(pid).ok().and_then(|process| process.stat());
        let request = Request {
            target: ProcessId {
                tgid: pid,
                start: stat.map_or(BootTime(0), |stat| stat.start),
            },
            ..suspect.request(Options::default())
        };
        let error = take(request, folder.path()).unwrap_err().to_string();
        assert!(error.contains(why), "{pid}: {error}");
    }
    assert!(is_empty(folder.path()));
}

#[test]
fn limits_are_kept_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let suspect = Suspect::start();
    let mut options = Options {
        limit: 1 << 20,
        memory_limit: 100_000,
        executable_limit: 1_000,
        ..Options::default()
    };
    options.memory.insert(Region::Writable);
    let bundle = take(suspect.request(options), folder.path()).unwrap();
    let manifest = bundle.manifest;
    let memory = manifest
        .parts
        .iter()
        .filter(|part| part.name.starts_with("memory/"));
    assert_eq!(memory.clone().map(|part| part.size).sum::<u64>(), 100_000);
    assert!(memory.clone().any(|part| part.truncated.is_some()));
    let executable = manifest
        .parts
        .iter()
        .find(|part| part.name == "executable")
        .unwrap();
    assert_eq!(executable.size, 1_000);
    let truncated = executable.truncated.as_deref().unwrap();
    assert!(truncated.starts_with("the first 1000 of "), "{truncated}");
    assert!(manifest.total <= 1 << 20);
    assert!(WallTime::now().0 >= manifest.ended_ns);
}
