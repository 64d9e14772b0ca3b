//! The rules that the agent brings along: the files of `rules/` in the repository.

include!(concat!(env!("OUT_DIR"), "/pack.rs"));
