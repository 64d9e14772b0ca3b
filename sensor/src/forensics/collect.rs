//! From a process to a bundle.
//!
//! A thread of its own takes the parts; whoever asked waits for it, up to the time limit, and keeps hold of the suspect and of the unfinished
//! file meanwhile. So neither a read that does not end nor a panic leaves a process stopped or half a file behind.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Bundle, ForensicsError, LIMITS, Options, Request,
    bundle::Writer,
    descriptors,
    directory::Unfinished,
    family,
    key::HostKey,
    manifest::{Manifest, Missing, Paused, Target, VERSION},
    memory,
    patient::{CHUNK, Chunks, PATIENCE, within},
    pause::Pause,
    process, sockets,
};
use crate::{
    host::{ProcessId, proc::ProcDir},
    respond::{Held, Missed, Refusal},
    time::WallTime,
};

/// Reads that did not end, after which nothing is read any more that may not end.
const STALLS_MAX: u32 = 2;

/// Most entries of what is missing.
const MISSING_MAX: usize = 1_024;

/// How soon somebody who wants it given up is heard.
const LOOKS_UP: Duration = Duration::from_millis(50);

/// Takes the evidence of a process and puts it into `directory`, signed with `key`. `may_pause` says of the process's executable whether it
/// may be paused: [`Guard::check_member`](crate::respond::Guard::check_member) knows.
///
/// Takes as long as reading does, at most [`Options::time_limit`].
///
/// # Errors
/// If the process is not there or is one of those that are refused, or the bundle cannot be written. Nothing is left behind then.
pub fn collect(
    request: Request,
    directory: &Path,
    key: &HostKey,
    may_pause: impl FnOnce(&[u8]) -> Result<(), Refusal>,
) -> Result<Bundle, ForensicsError> {
    let id = request.target;
    refuse(id)?;
    let mut forbidden = (!request.options.pause).then(|| "it was not to be paused".to_owned());
    let held = hold(id, |executable| {
        forbidden = forbidden
            .take()
            .or_else(|| Some(may_pause(executable).err()?.to_string()));
    })?;
    let began = WallTime::now();
    let (unfinished, file) = Unfinished::create(directory, &name(&request.host, id, began))?;

    let pause = Pause::new(&held, forbidden);
    let progress = Progress {
        step: Arc::default(),
        given_up: Arc::clone(&request.stop),
    };
    let time_limit = request.options.time_limit;
    let work = Work {
        request,
        began,
        paused: pause.paused.clone(),
        progress: progress.clone(),
        key: key.clone(),
    };
    let made = wait(id, &progress, time_limit, move || work.run(file))?;
    drop(pause);

    let failed = |cause| ForensicsError::Write {
        path: unfinished.path(),
        cause,
    };
    let made = match made {
        Err(_) if progress.is_given_up() => return Err(ForensicsError::Stopped),
        made => made.map_err(failed)?,
    };
    made.file.sync_all().map_err(failed)?;
    Ok(Bundle {
        path: unfinished.keep()?,
        sha256: made.sha256,
        size: made.size,
        manifest: made.manifest,
    })
}

/// Those of which no evidence is taken: to read their memory is to read nothing, or oneself.
fn refuse(id: ProcessId) -> Result<(), ForensicsError> {
    let why = match id.tgid {
        0 => Refusal::KernelThread,
        1 => Refusal::Init,
        tgid if tgid == std::process::id() => Refusal::Sensor,
        tgid => match ProcDir::open_same(id) {
            Some((_, stat)) if stat.kernel_thread || tgid == 2 => Refusal::KernelThread,
            _ => return Ok(()),
        },
    };
    Err(ForensicsError::Refused {
        pid: id.tgid,
        why: why.to_string(),
    })
}

fn hold(id: ProcessId, look: impl FnOnce(&[u8])) -> Result<Held, ForensicsError> {
    let held = Held::new(id, None, |executable| {
        look(executable);
        Ok(())
    });
    held.map_err(|missed| match missed {
        Missed::Gone(why) => ForensicsError::Gone {
            pid: id.tgid,
            why: why.to_owned(),
        },
        other => ForensicsError::Held {
            pid: id.tgid,
            why: other.to_string(),
        },
    })
}

/// `HOST-PID-TIME.tar.zst`, in letters that every file system takes.
fn name(host: &str, id: ProcessId, time: WallTime) -> String {
    let plain =
        |character: &char| character.is_ascii_alphanumeric() || *character == '-' || *character == '.';
    let host: String = host.chars().filter(plain).take(64).collect();
    let host = host.trim_start_matches(['.', '-']);
    let time = time.to_string().replace([':', '-'], "");
    format!(
        "{}-{}-{time}.tar.zst",
        if host.is_empty() { "host" } else { host },
        id.tgid
    )
}

/// Runs `work` on a thread of its own and waits for it, unless it takes too long or is given up.
fn wait<T: Send + 'static>(
    id: ProcessId,
    progress: &Progress,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, ForensicsError> {
    let (to, from) = sync_channel(1);
    let thread = std::thread::Builder::new().name("forensics".to_owned());
    let started = thread.spawn(move || {
        // Whoever waited may have left.
        let _ = to.send(work());
    });
    if let Err(error) = started {
        return Ok(Err(error));
    }
    let deadline = Instant::now() + limit;
    loop {
        match from.recv_timeout(LOOKS_UP) {
            Ok(made) => return Ok(made),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err(io::Error::other("the thread that wrote it ended in a panic")));
            }
            Err(RecvTimeoutError::Timeout) if progress.is_given_up() => return Err(ForensicsError::Stopped),
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                progress.give_up();
                return Err(ForensicsError::TooLong {
                    pid: id.tgid,
                    step: progress.step(),
                    limit,
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Where a collection is, and whether anybody still wants it.
#[derive(Clone)]
struct Progress {
    step: Arc<Mutex<String>>,
    given_up: Arc<AtomicBool>,
}

impl Progress {
    fn step(&self) -> String {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// An error once nobody wants it any more.
    fn check(&self) -> io::Result<()> {
        if self.is_given_up() {
            return Err(io::Error::other("it was given up"));
        }
        Ok(())
    }
}

/// All that the thread needs to know.
struct Work {
    request: Request,
    began: WallTime,
    paused: Paused,
    progress: Progress,
    key: HostKey,
}

/// What came of it.
struct Made {
    file: File,
    sha256: String,
    size: u64,
    manifest: Manifest,
}

impl Work {
    fn run(self, file: File) -> io::Result<Made> {
        let id = self.request.target;
        let Some((process, _)) = ProcDir::open_same(id) else {
            return Err(io::Error::other(
                "the process ended before anything was read of it",
            ));
        };
        let options = self.request.options.clone();
        let mut collection = Collection {
            process: Arc::new(process),
            out: Writer::new(file, options.limit.clamp(*LIMITS.start(), *LIMITS.end()))?,
            options,
            missing: Vec::new(),
            progress: self.progress.clone(),
            stalls: 0,
        };
        collection.take(id, self.request.events.as_deref())?;
        let key = self.key.clone();
        let mut manifest = self.manifest(&mut collection);
        let (file, sha256, size) = collection.out.finish(&mut manifest, &key)?;
        Ok(Made {
            file,
            sha256,
            size,
            manifest,
        })
    }

    fn manifest(self, collection: &mut Collection) -> Manifest {
        let process = &collection.process;
        let state = process.stat().map(|stat| stat.state);
        if state.is_none_or(|state| matches!(state, b'Z' | b'X')) {
            collection.missing.push(Missing {
                what: "the process".to_owned(),
                why: "it ended before everything was taken".to_owned(),
            });
        }
        let still = state.is_none_or(|state| matches!(state, b'T' | b't'));
        let (executable, ..) = process.executable();
        let request = self.request;
        Manifest {
            version: VERSION,
            sensor: env!("CARGO_PKG_VERSION").to_owned(),
            host: request.host,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            began_ns: self.began.0,
            ended_ns: WallTime::now().0,
            who: request.who,
            why: request.why,
            incident: request.incident,
            target: Target {
                pid: request.target.tgid,
                start_ns: request.target.start.0,
                executable: process::lossy(&executable),
                deleted: process.about("exe").is_ok_and(|about| about.stx_nlink == 0),
            },
            // Somebody else may have let it go on.
            paused: if self.paused == Paused::Stopped && !still {
                Paused::Running
            } else {
                self.paused
            },
            parts: Vec::new(),
            total: 0,
            missing: std::mem::take(&mut collection.missing),
            memory: request
                .options
                .memory
                .iter()
                .map(|region| region.name().to_owned())
                .collect(),
            key: self.key.public().to_string(),
        }
    }
}

/// Evidence that is being taken.
pub(super) struct Collection {
    pub(super) process: Arc<ProcDir>,
    pub(super) out: Writer<File>,
    pub(super) options: Options,
    missing: Vec<Missing>,
    progress: Progress,
    stalls: u32,
}

impl Collection {
    /// What changes soonest comes first, what takes longest last.
    fn take(&mut self, id: ProcessId, events: Option<&[u8]>) -> io::Result<()> {
        process::files(self)?;
        process::texts(self)?;
        process::threads(self)?;
        let sockets = descriptors::list(self)?;
        sockets::list(self, sockets)?;
        family::list(self, id.tgid)?;
        match events {
            Some(events) => self.text("events.jsonl", Ok((events.to_vec(), None)))?,
            None => self.lack("events.jsonl", "no agent was asked for them")?,
        }
        self.executable()?;
        memory::take(self)
    }

    /// What it runs, also if no name leads there any more.
    fn executable(&mut self) -> io::Result<()> {
        const NAME: &str = "executable";
        self.step(NAME)?;
        let process = Arc::clone(&self.process);
        let opened = within(PATIENCE, move || {
            let file = process.open_file("exe")?;
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        let (file, whole) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.lacks(NAME, &error),
        };
        let size = whole.min(self.options.executable_limit).min(self.out.left());
        let mut at = 0;
        let chunks = Chunks::of(PATIENCE, move || {
            let mut chunk = vec![0; (size - at).min(CHUNK as u64) as usize];
            let read = file.read_at(&mut chunk, at)?;
            chunk.truncate(read);
            at += read as u64;
            Ok((read > 0).then_some(chunk))
        })?;
        let cut = (size < whole).then(|| format!("the first {size} of {whole} bytes: a limit was reached"));
        self.stream(NAME, size, Some(chunks), cut)
    }

    /// Says what is being done now.
    ///
    /// # Errors
    /// If nobody wants it any more.
    pub(super) fn step(&self, step: &str) -> io::Result<()> {
        step.clone_into(&mut self.progress.step.lock().unwrap_or_else(PoisonError::into_inner));
        self.progress.check()
    }

    /// Whether too many reads did not end for another one to be tried.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalls >= STALLS_MAX
    }

    /// A part that was read, or why it could not be.
    pub(super) fn text(&mut self, name: &str, read: io::Result<(Vec<u8>, Option<String>)>) -> io::Result<()> {
        match read {
            Ok((content, truncated)) => self.out.whole(name, &content, truncated),
            Err(error) => self.lacks(name, &error),
        }
    }

    pub(super) fn json(&mut self, name: &str, value: &Value) -> io::Result<()> {
        self.out.whole(name, &serde_json::to_vec_pretty(value)?, None)
    }

    /// A part of `size` bytes, which come one after the other; `cut` says what it lacks of what there is.
    pub(super) fn stream(
        &mut self,
        name: &str,
        size: u64,
        chunks: Option<Chunks>,
        cut: Option<String>,
    ) -> io::Result<()> {
        let mut part = self.out.begin(name, size)?;
        let mut failed = None;
        for chunk in chunks.into_iter().flatten() {
            self.progress.check()?;
            match chunk {
                Ok(chunk) => part.write(&chunk)?,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            if part.missing() == 0 {
                break;
            }
        }
        part.end(cut)?;
        match failed {
            Some(error) => self.lacks(name, &error),
            None => Ok(()),
        }
    }

    /// Notes that something is not there, or not whole.
    pub(super) fn lacks(&mut self, what: &str, why: &io::Error) -> io::Result<()> {
        if why.kind() == io::ErrorKind::TimedOut {
            self.stalls += 1;
        }
        self.lack(what, &why.to_string())
    }

    fn lack(&mut self, what: &str, why: &str) -> io::Result<()> {
        if self.missing.len() < MISSING_MAX {
            self.missing.push(Missing {
                what: what.to_owned(),
                why: why.to_owned(),
            });
        }
        self.progress.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::BootTime;

    #[test]
    fn what_takes_too_long_or_panics_is_not_waited_for() {
        let id = ProcessId {
            tgid: 7,
            start: BootTime(0),
        };
        let progress = || Progress {
            step: Arc::new(Mutex::new("net/tcp".into())),
            given_up: Arc::default(),
        };
        let waiting = progress();
        let sees = waiting.clone();
        let waits = move || {
            while !sees.is_given_up() {
                std::thread::yield_now();
            }
            Ok(())
        };
        let error = wait(id, &waiting, Duration::ZERO, waits).unwrap_err().to_string();
        assert!(error.contains("at net/tcp"), "{error}");
        let panics = || -> io::Result<()> { panic!("on purpose") };
        let failed = wait(id, &progress(), Duration::from_secs(60), panics).unwrap();
        assert!(failed.is_err());
        assert_eq!(
            wait(id, &progress(), Duration::from_secs(60), || Ok(7))
                .unwrap()
                .unwrap(),
            7
        );
    }

    #[test]
    fn names_are_plain() {
        let id = ProcessId {
            tgid: 7,
            start: BootTime(0),
        };
        for (host, file) in [
            ("web-1.example", "web-1.example-7-19700101T000000.000Z.tar.zst"),
            ("../../etc", "etc-7-19700101T000000.000Z.tar.zst"),
            ("", "host-7-19700101T000000.000Z.tar.zst"),
        ] {
            assert_eq!(name(host, id, WallTime(0)), file);
        }
    }
}
