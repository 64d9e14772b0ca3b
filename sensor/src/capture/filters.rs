//! What the kernel programs are told while they run: settings, whom the operator muted, which files are watched.
//!
//! Every change is one update of one map entry: programs see the former or the new value, and are never without one.

use std::{io, net::IpAddr};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, lpm_trie::Key},
};
use ipnet::IpNet;
use sensor_common::{FileKey, MuteKey, Settings};

use super::take;

pod! {
    KernelSettings(Settings);
    KernelMute(MuteKey);
    KernelFile(FileKey);
}

/// The maps that the programs look into.
pub struct Filters {
    settings: Array<MapData, KernelSettings>,
    current: Settings,
    mutes: HashMap<MapData, KernelMute, u32>,
    networks: LpmTrie<MapData, [u8; 16], u32>,
    watches: HashMap<MapData, KernelFile, u32>,
}

/// How much each rule has muted in the kernel, readable from any thread.
pub struct MuteCounts(PerCpuArray<MapData, u64>);

impl MuteCounts {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self(take(ebpf, "MUTED")?.try_into()?))
    }

    /// Events that programs have muted by the rule of this number, since they were loaded.
    #[must_use]
    pub fn of(&self, rule: u32) -> u64 {
        let counts = self.0.get(&rule, 0);
        counts.map_or(0, |per_cpu| per_cpu.iter().sum())
    }
}

impl Filters {
    pub(super) fn new(ebpf: &mut Ebpf, settings: Settings) -> Result<Self, MapError> {
        let mut filters = Self {
            settings: take(ebpf, "SETTINGS")?.try_into()?,
            current: settings,
            mutes: take(ebpf, "MUTES")?.try_into()?,
            networks: take(ebpf, "NETWORKS")?.try_into()?,
            watches: take(ebpf, "WATCHES")?.try_into()?,
        };
        filters.change(|_| {})?;
        Ok(filters)
    }

    /// What the programs go by.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.current
    }

    /// Changes what the programs go by.
    ///
    /// # Errors
    /// If the kernel refuses; then they go by what they went by.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), MapError> {
        let mut settings = self.current;
        change(&mut settings);
        self.settings.set(0, KernelSettings(settings), 0)?;
        self.current = settings;
        Ok(())
    }

    /// Lets the programs mute a subject by themselves.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mute(&mut self, key: MuteKey, rule: u32) -> Result<(), MapError> {
        self.mutes.insert(KernelMute(key), rule, 0)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// If the kernel refuses. That the entry is not there any more is no error: the longest unused is pushed out.
    pub fn unmute(&mut self, key: MuteKey) -> Result<(), MapError> {
        gone_is_well(self.mutes.remove(&KernelMute(key)))
    }

    /// Takes back every subject of the rules that `is_over`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unmute_rules(&mut self, is_over: impl Fn(u32) -> bool) -> Result<(), MapError> {
        let keys: Vec<_> = self
            .mutes
            .iter()
            .filter_map(|entry| entry.ok().filter(|(_, rule)| is_over(*rule)))
            .collect();
        keys.into_iter().try_for_each(|(key, _)| self.unmute(key.0))
    }

    /// Lets the programs mute connections whose other end is in `network`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mute_network(&mut self, network: IpNet, rule: u32) -> Result<(), MapError> {
        self.networks.insert(&network_key(network), rule, 0)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unmute_network(&mut self, network: IpNet) -> Result<(), MapError> {
        gone_is_well(self.networks.remove(&network_key(network)))
    }

    /// Lets the programs report this file whatever is done to it, or the files in this directory.
    ///
    /// # Errors
    /// If there are [too many](sensor_common::filter::WATCHES_MAX).
    pub fn watch(&mut self, file: FileKey) -> Result<(), MapError> {
        self.watches.insert(KernelFile(file), 1, 0)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unwatch(&mut self, file: FileKey) -> Result<(), MapError> {
        gone_is_well(self.watches.remove(&KernelFile(file)))
    }
}

fn gone_is_well(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// As the programs write addresses: IPv4 as IPv4-mapped IPv6.
fn network_key(network: IpNet) -> Key<[u8; 16]> {
    let (address, mapped) = match network.network() {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 96),
        IpAddr::V6(address) => (address, 0),
    };
    Key::new(mapped + u32::from(network.prefix_len()), address.octets())
}
