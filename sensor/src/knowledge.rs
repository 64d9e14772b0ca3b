//! What detection has learned, in a file that outlives the agent: `models` in its directory for state.

use std::{path::Path, time::Duration};

use crate::{
    detect::Detector,
    state::StateFile,
    time::{BootTime, WallTime},
};

const NAME: &str = "models";

/// How often it is written: as much is lost of what was learned if the host loses its power. Making the bytes holds up the pipeline for some
/// milliseconds, which the rings bridge.
const SAVE: Duration = Duration::from_secs(900);

/// The file, and when it was last written.
pub struct Knowledge {
    file: StateFile,
    saved: BootTime,
}

impl Knowledge {
    /// Lets `detector` go on with what the file in `directory` says. `None` if nothing can be kept there.
    #[must_use]
    pub fn resume(directory: &Path, detector: &mut Detector) -> Option<Self> {
        let (file, bytes) = StateFile::open(directory, NAME, "models of what is normal")?;
        if let Some(bytes) = bytes
            && let Err(error) = detector.restore(&bytes, BootTime::now(), WallTime::now())
        {
            file.set_aside(&error);
        }
        Some(Self {
            file,
            saved: BootTime::now(),
        })
    }

    /// Lets it be written, when it is time.
    pub fn refresh(&mut self, detector: &Detector, now: BootTime) {
        if now.since(self.saved) >= SAVE && !self.file.is_busy() {
            self.saved = now;
            let state = detector.state();
            self.file.save(move || state);
        }
    }

    /// Writes it, at the end.
    pub fn finish(&mut self, detector: &Detector) {
        let state = detector.state();
        self.file.save(move || state);
        self.file.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        config::Detect,
        detect::testing::{operation, process},
        host::{Body, Event, Limits, Thread, Tree},
    };

    fn detector() -> Detector {
        Detector::new(&Detect::default(), "host")
    }

    fn learned() -> Detector {
        let mut detector = detector();
        let processes = Tree::new(Limits::default());
        for step in 1..=20 {
            let body = operation(sensor_common::Signal::FileOpen, &format!("/srv/{}/x", step % 3));
            let event = Event {
                time: BootTime(step * 100_000_000_000),
                wall: WallTime(step * 100_000_000_000),
                cpu: 0,
                process: Some(process("unit:app.service", "/usr/bin/app", None)),
                parent: None,
                thread: Thread::default(),
                body: Body::Operation(Box::new(body)),
            };
            detector.detect(&event.into(), &processes);
        }
        detector
    }

    #[test]
    fn what_was_learned_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut first, learned) = (detector(), learned());
        let mut knowledge = Knowledge::resume(folder.path(), &mut first).unwrap();
        assert!(first.models().is_empty());
        knowledge.finish(&learned);
        let mut second = detector();
        Knowledge::resume(folder.path(), &mut second).unwrap();
        assert_eq!(second.models(), learned.models());
        assert_eq!(second.state(), learned.state());
        let model = second.model("unit:app.service").unwrap();
        assert_eq!((model.observations, model.facts, model.is_ready), (20, 3, false));
        assert_eq!(&*model.usual[0].0, b"/srv/1");
    }

    #[test]
    fn what_is_damaged_is_set_aside_and_learned_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut bytes = learned().state();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let mut detector = detector();
        assert!(Knowledge::resume(folder.path(), &mut detector).is_some());
        assert!(detector.models().is_empty());
        assert_eq!(fs::read(folder.path().join("models.damaged")).unwrap(), bytes);
    }

    #[test]
    fn what_another_has_learned_adds_up() {
        let (mut ours, theirs) = (learned(), learned());
        ours.merge(&theirs.state(), BootTime(0), WallTime(0)).unwrap();
        let model = ours.model("unit:app.service").unwrap();
        assert_eq!((model.observations, model.facts), (40, 3));
        assert!(ours.merge(b"GIF89a", BootTime(0), WallTime(0)).is_err());
    }

    #[test]
    fn what_is_forgotten_is_learned_anew() {
        let mut detector = learned();
        assert!(detector.forget("unit:app.service"));
        assert!(!detector.forget("unit:app.service"));
        assert_eq!(detector.model("unit:app.service"), None);
    }
}
