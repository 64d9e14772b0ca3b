//! What waits for nobody gives way to what agents wait for.

use rustix::{process::setpriority_process, thread::gettid};

/// Nice value of threads that keep the lake and answer queries.
const GIVING_WAY: i32 = 10;

/// Makes the current thread give way. Where the system does not allow it, it is as important as the others.
pub fn give_way() {
    let _ = setpriority_process(Some(gettid()), GIVING_WAY);
}
