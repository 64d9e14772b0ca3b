//! Reading what may never come.
//!
//! The file system under an executable or a mapping may be the suspect's own, or on a network that is gone; a read of it does not end then,
//! and no flag changes that. So whoever reads waits for a thread, and leaves it behind when [`PATIENCE`] is over. Such a thread ends when its
//! read does, or with this process. Two are left behind at most for each collection, which gives up then.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

/// How long nothing may come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// What `work` returns, if it does in time: within [`PATIENCE`], for all but tests.
pub(super) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (to, from) = sync_channel(1);
    start(move || {
        // Nobody may be waiting any more.
        let _ = to.send(work());
    })?;
    receive(&from, patience).unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
}

/// The pieces that `next` returns one after the other, until it returns none or fails.
pub(super) struct Chunks {
    from: Receiver<io::Result<Vec<u8>>>,
    patience: Duration,
}

impl Chunks {
    pub(super) fn of(
        patience: Duration,
        mut next: impl FnMut() -> io::Result<Option<Vec<u8>>> + Send + 'static,
    ) -> io::Result<Self> {
        let (to, from) = sync_channel(2);
        start(move || {
            while let Some(chunk) = next().transpose() {
                let failed = chunk.is_err();
                if to.send(chunk).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { from, patience })
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        receive(&self.from, self.patience)
    }
}

fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("evidence".to_owned())
        .spawn(work)
        .map(drop)
}

fn receive<T>(from: &Receiver<io::Result<T>>, patience: Duration) -> Option<io::Result<T>> {
    match from.recv_timeout(patience) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => Some(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing came within {patience:?}"),
        ))),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn what_never_comes_is_not_waited_for() {
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        let mut silent = File::from(ours);
        let read = within(Duration::from_millis(50), move || silent.read(&mut [0]));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(theirs);
        assert_eq!(within(PATIENCE, || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn pieces_come_in_order_until_one_does_not() {
        let (ours, _theirs) = rustix::pipe::pipe().unwrap();
        let mut silent = File::from(ours);
        let mut count = 0;
        let chunks = Chunks::of(Duration::from_millis(500), move || {
            count += 1;
            if count > 3 {
                silent.read_exact(&mut [0])?;
            }
            Ok(Some(vec![count]))
        });
        let mut chunks = chunks.unwrap();
        let came: Vec<_> = chunks.by_ref().take(3).map(Result::unwrap).collect();
        assert_eq!(came, [[1], [2], [3]]);
        assert_eq!(
            chunks.next().unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let mut ended = Chunks::of(PATIENCE, || Ok(None)).unwrap();
        assert!(ended.next().is_none());
    }
}
