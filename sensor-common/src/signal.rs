//! What can be reported, and how urgent it is.

/// One kind of thing that the kernel programs report. The number is the wire's and the maps' index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Signal {
    /// A process replaced its program.
    Exec = 0,
    /// A process was created (threads are not reported).
    Fork = 1,
    /// The last thread of a process ended.
    Exit = 2,
    /// A TCP connection was attempted.
    Connect = 3,
    /// A TCP connection was accepted.
    Accept = 4,
    /// A TCP socket began to listen.
    Listen = 5,
    /// A TCP connection ended, with what it carried.
    FlowClose = 6,
}

/// Which ring a signal travels on. A flood on one class cannot delay or lose the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Class {
    /// Process, credential, kernel and response events.
    Critical = 0,
    /// File, flow and syscall events.
    Bulk = 1,
}

impl Signal {
    /// How many signals there are: the length of every per-signal table.
    pub const COUNT: usize = 7;

    /// Every signal, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Exec,
        Self::Fork,
        Self::Exit,
        Self::Connect,
        Self::Accept,
        Self::Listen,
        Self::FlowClose,
    ];

    /// The signal of this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The name that people, filters, metrics and the wire use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Listen => "listen",
            Self::FlowClose => "flow_close",
        }
    }

    /// The ring class it travels on.
    #[must_use]
    #[inline(always)]
    pub const fn class(self) -> Class {
        match self {
            Self::Exec | Self::Fork | Self::Exit => Class::Critical,
            Self::Connect | Self::Accept | Self::Listen | Self::FlowClose => Class::Bulk,
        }
    }

    /// Whether the agent is woken at once, because a response may hang on it. What does not wake it waits for a record
    /// that does, for the watermark, or for the agent's own look, some milliseconds later.
    #[must_use]
    #[inline(always)]
    pub const fn wakes(self) -> bool {
        matches!(self, Self::Exec)
    }
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_table_agree() {
        for (index, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!(signal as usize, index);
            assert_eq!(Signal::from_number(signal as u16), Some(signal));
        }
        assert_eq!(Signal::from_number(Signal::COUNT as u16), None);
    }
}
