use super::*;
use crate::{
    detect::{
        Incident,
        testing::{operation, process},
    },
    host::Thread,
    recording::{Reader, Writer},
};

const MINUTE: u64 = 60_000_000_000;

/// A service that touches the same files for long, and then what it never did.
fn recording() -> Vec<u8> {
    let service = process("unit:app.service", "/usr/bin/app", None);
    let mut writer = Writer::new(About {
        host: "web1".into(),
        agent: String::new(),
        kernel: String::new(),
        began: WallTime(1_800_000_000_000_000_000),
        began_boot: BootTime(MINUTE),
    });
    writer.running(&service);
    let mut now = MINUTE;
    let mut touches = |path: &str| {
        now += 2 * MINUTE;
        writer.event(&Event {
            time: BootTime(now),
            wall: WallTime(1_800_000_000_000_000_000 + now),
            cpu: 0,
            process: Some(Arc::clone(&service)),
            parent: None,
            thread: Thread::default(),
            body: Body::Operation(Box::new(operation(sensor_common::Signal::FileOpen, path))),
        });
    };
    (0..1_500).for_each(|index| touches(&format!("/var/lib/app/{index}")));
    for path in [
        "/etc/cron.d/x",
        "/root/.ssh/authorized_keys",
        "/etc/ld.so.preload",
        "/dev/shm/y",
        "/srv/a/b",
    ] {
        touches(path);
    }
    writer.finish()
}

fn play(bytes: &[u8], shift: Shift) -> Vec<Arc<Incident>> {
    let mut replay = Replay::new(&Config::default(), "web1");
    replay.begin(shift);
    let recorded = Reader::new(bytes).expect("a recording");
    let incidents = recorded
        .map(|recorded| replay.take(&recorded.expect("it is whole")).incidents)
        .collect::<Vec<_>>();
    assert_eq!((replay.events(), replay.lost()), (1_505, 0));
    incidents.concat()
}

#[test]
fn the_same_recording_gives_the_same_incidents() {
    let bytes = recording();
    let incidents = play(&bytes, Shift::default());
    assert!(!incidents.is_empty());
    assert_eq!(incidents, play(&bytes, Shift::default()));
}

#[test]
fn a_recording_that_is_moved_gives_the_same_at_another_time() {
    let bytes = recording();
    let day = 86_400_000_000_000;
    let shift = Shift {
        boot: day,
        wall: -day,
    };
    let (moved, unmoved) = (play(&bytes, shift), play(&bytes, Shift::default()));
    let texts = |incidents: &[Arc<Incident>]| -> Vec<String> {
        incidents
            .iter()
            .map(|incident| incident.summary.clone())
            .collect()
    };
    assert_eq!(texts(&moved), texts(&unmoved));
    assert_eq!(moved[0].opened.0, unmoved[0].opened.0 - day as u64);
}
