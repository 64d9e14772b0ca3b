//! Which share of the processors delivery has.
//!
//! What waits for others (subscribers, the collector) gives way to the work of the host: its threads run at nice
//! [`GIVING_WAY`]. On a host that has no time to spare they would starve, and lose events that the pipeline has brought this far. So the
//! pipeline, which sees how full the queues are, lets them hurry until the queues are nearly empty.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rustix::{
    process::{Pid, setpriority_process},
    thread::gettid,
};

const GIVING_WAY: i32 = 10;
const HURRYING: i32 = 0;

/// How full a queue is when those who empty it are to hurry, and when they need no longer.
const HURRY_FROM: f32 = 0.25;
const HURRY_UNTIL: f32 = 0.03;

/// The threads that deliver. There is one such group in a process.
#[derive(Debug)]
pub struct Delivery {
    threads: Mutex<Vec<Pid>>,
    hurrying: AtomicBool,
}

/// The threads of this process that deliver.
pub static DELIVERY: Delivery = Delivery {
    threads: Mutex::new(Vec::new()),
    hurrying: AtomicBool::new(false),
};

/// The current thread gives way to the work of the host, whatever happens.
pub fn give_way() {
    set(gettid(), GIVING_WAY);
}

impl Delivery {
    /// The current thread delivers, from now until the process ends.
    pub fn join(&self) {
        let thread = gettid();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        let hurrying = self.hurrying.load(Ordering::Relaxed);
        set(thread, if hurrying { HURRYING } else { GIVING_WAY });
    }

    /// The fullest queue is so full, from 0 to 1.
    pub fn keep_up(&self, fullest: f32) {
        let hurrying = self.hurrying.load(Ordering::Relaxed);
        let hurry = fullest >= if hurrying { HURRY_UNTIL } else { HURRY_FROM };
        if hurry == hurrying {
            return;
        }
        self.hurrying.store(hurry, Ordering::Relaxed);
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.iter() {
            set(*thread, if hurry { HURRYING } else { GIVING_WAY });
        }
    }
}

/// Without the right to it, threads go on as they are.
fn set(thread: Pid, nice: i32) {
    let _ = setpriority_process(Some(thread), nice);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn those_who_deliver_hurry_while_a_queue_is_filling_up() {
        let delivery = Delivery {
            threads: Mutex::new(Vec::new()),
            hurrying: AtomicBool::new(false),
        };
        delivery.join();
        let nice = || getpriority_process(Some(gettid())).expect("is this thread");
        assert_eq!(nice(), GIVING_WAY);
        let mut seen = Vec::new();
        for fullest in [0.2, 0.3, 0.1, 0.02, 0.1] {
            delivery.keep_up(fullest);
            seen.push(nice());
        }
        // Who may not be more important than before stays as it was: only root may.
        if rustix::process::geteuid().is_root() {
            assert_eq!(seen, [10, 0, 0, 10, 10]);
        }
    }
}
