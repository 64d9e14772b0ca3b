//! SQLite databases that a program keeps for itself: opened with a schema of a known version, readable by their owner alone, and set
//! aside where they are damaged.
//!
//! Invariants:
//! - A database is never deleted. One that cannot be read gets another name, with what belongs to it, and a new one is begun.
//! - What a newer version wrote is left alone: it is refused by name.
//! - Files have mode 0600, directories that are made 0700, whatever the umask says.

mod aside;
mod error;
mod open;
mod plan;
mod time;

pub use aside::{CORRUPT, is_damaged, set_aside};
pub use error::StorageError;
pub use open::{Opened, check, in_memory, open, open_or_renew};
pub use plan::{Durability, Plan};
pub use time::{nanoseconds, now};
