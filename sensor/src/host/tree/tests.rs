use std::collections::HashMap;

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::host::proc::TICK_NS;

/// Starts are this far apart, so that no two processes of one id begin within a tick.
const STEP: u64 = 2 * TICK_NS;

fn id(tgid: u32, start: u64) -> ProcessId {
    ProcessId {
        tgid,
        start: BootTime(start),
    }
}

fn facts(id: ProcessId, parent: Option<ProcessId>) -> Facts {
    Facts {
        id,
        parent,
        credentials: Credentials::default(),
        workload: Arc::default(),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    }
}

fn image(name: &str, args: usize) -> Image {
    Image {
        executable: name.as_bytes().into(),
        args: vec![b'x'; args].into(),
        args_total: args as u64,
        ..Image::default()
    }
}

fn tree(processes: usize, exited: usize, image_bytes: usize) -> Tree {
    Tree::new(Limits {
        processes,
        exited,
        image_bytes,
    })
}

/// Like `touch`, but for tests that hold no facts in their hands.
fn executable(tree: &Tree, id: ProcessId) -> Option<String> {
    Some(String::from_utf8_lossy(&tree.get(id)?.image.executable).into_owned())
}

#[test]
fn a_child_shares_its_parents_image_until_it_executes() {
    let mut tree = Tree::new(Limits::default());
    let (parent, child) = (id(1, 0), id(2, STEP));
    let (shell, previous) = tree.exec(facts(parent, None), image("sh", 10));
    assert_eq!(previous, None);
    let forked = tree.fork(facts(child, Some(parent)), &shell.image);
    assert!(Arc::ptr_eq(&forked.image, &shell.image));
    let (_, previous) = tree.exec(facts(child, Some(parent)), image("ls", 10));
    assert!(Arc::ptr_eq(&previous.unwrap(), &shell.image));
    assert_eq!(executable(&tree, parent).unwrap(), "sh");
}

#[test]
fn the_second_exit_is_a_duplicate() {
    let mut tree = Tree::new(Limits::default());
    for known in [true, false] {
        let process = id(7, STEP * u64::from(known));
        if known {
            tree.enter(facts(process, None), None);
        }
        assert!(matches!(tree.exit(facts(process, None)), Ended::First(_)));
        assert_eq!(tree.exit(facts(process, None)), Ended::Duplicate);
        assert!(tree.get(process).is_some(), "late events still find it");
    }
    assert_eq!(tree.live(), 0);
}

#[test]
fn a_missed_exit_is_noticed_when_the_id_is_reused_and_still_counts_when_it_comes() {
    let mut tree = Tree::new(Limits::default());
    let (first, second) = (id(7, 0), id(7, STEP));
    tree.exec(facts(first, None), image("old", 0));
    tree.exec(facts(second, None), image("new", 0));
    assert_eq!((tree.live(), tree.len()), (1, 2));
    assert_eq!(executable(&tree, first).unwrap(), "old");
    assert!(matches!(tree.exit(facts(first, None)), Ended::First(_)));
    assert_eq!(executable(&tree, second).unwrap(), "new");
    assert_eq!(tree.live_id(7), Some(second));
}

#[test]
fn a_snapshot_entry_is_adopted_by_its_tick_once() {
    let mut tree = Tree::new(Limits::default());
    let rounded = id(7, STEP);
    let exact = id(7, STEP + 1_234);
    tree.enter_snapshot(facts(rounded, None), image("daemon", 0));
    assert_eq!(tree.touch(&facts(exact, None)).unwrap().id, exact);
    assert_eq!(
        executable(&tree, rounded).unwrap(),
        "daemon",
        "children from the snapshot name it so"
    );
    let other = id(7, STEP + 5_678);
    assert_eq!(tree.touch(&facts(other, None)), None);
    assert_eq!(executable(&tree, other), None);
}

#[test]
fn a_snapshot_does_not_undo_what_events_told() {
    let mut tree = Tree::new(Limits::default());
    let exact = id(7, STEP + 1_234);
    tree.exec(facts(exact, None), image("new", 0));
    tree.enter_snapshot(facts(id(7, STEP), None), image("old", 0));
    tree.enter_snapshot(facts(id(7, 0), None), image("older", 0));
    assert_eq!(executable(&tree, exact).unwrap(), "new");
    assert_eq!(tree.len(), 1);
}

#[test]
fn new_credentials_are_followed_without_touching_what_was_handed_out_and_the_first_parent_stays() {
    let mut tree = Tree::new(Limits::default());
    let process = id(7, STEP);
    let before = tree.enter(facts(process, Some(id(6, 0))), None);
    assert!(
        Arc::ptr_eq(&before, &tree.touch(&facts_like(&before)).unwrap()),
        "nothing new, nothing made"
    );
    let root = Facts {
        credentials: Credentials {
            euid: 5,
            ..Credentials::default()
        },
        ..facts_like(&before)
    };
    let after = tree
        .touch(&Facts {
            parent: Some(id(1, 0)),
            ..root
        })
        .unwrap();
    assert_eq!((after.parent, after.credentials.euid), (Some(id(6, 0)), 5));
    assert_eq!((before.parent, before.credentials.euid), (Some(id(6, 0)), 0));
    // Nor does it get lost where the process executes a program only after whoever started it has ended.
    let orphan = facts(process, Some(id(1, 0)));
    let (executed, _) = tree.exec(orphan, image("daemon", 1));
    assert_eq!(executed.parent, Some(id(6, 0)));
}

fn facts_like(process: &Process) -> Facts {
    Facts {
        workload: Arc::clone(&process.workload),
        ..facts(process.id, process.parent)
    }
}

#[test]
fn arguments_go_before_live_processes_and_ended_ones_before_both() {
    let mut tree = tree(100, 100, 42_000);
    tree.exec(facts(id(99, 0), None), image("ended", 8_000));
    tree.exit(facts(id(99, 0), None));
    for tgid in 0..4 {
        tree.exec(facts(id(tgid, STEP), None), image("live", 8_000));
    }
    assert!(tree.get(id(99, 0)).is_some());
    tree.exec(facts(id(4, STEP), None), image("live", 8_000));
    assert!(tree.get(id(99, 0)).is_none(), "the ended one made room");
    tree.exec(facts(id(5, STEP), None), image("live", 8_000));
    assert_eq!(tree.live(), 6);
    let oldest = tree.get(id(0, STEP)).unwrap();
    assert!(oldest.image.args.is_empty() && oldest.image.args_truncated());
    assert_eq!(&*oldest.image.executable, b"live");
    assert_eq!(tree.get(id(5, STEP)).unwrap().image.args.len(), 8_000);
    assert!(tree.image_bytes() <= 42_000);
}

#[test]
fn the_longest_silent_live_process_goes_first() {
    let mut tree = tree(3, 3, 1 << 20);
    for tgid in 0..3 {
        tree.enter(facts(id(tgid, 0), None), None);
    }
    tree.touch(&facts(id(0, 0), None));
    tree.enter(facts(id(3, 0), None), None);
    assert!(tree.get(id(0, 0)).is_some());
    assert!(tree.get(id(1, 0)).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Fork { asker: Index, tgid: u32 },
    Exec { process: Index, args: usize },
    Exit { process: Index },
    Snapshot { process: Index },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<Index>(), 2..12_u32).prop_map(|(asker, tgid)| Step::Fork { asker, tgid }),
        2 => (any::<Index>(), 0..600_usize).prop_map(|(process, args)| Step::Exec { process, args }),
        2 => any::<Index>().prop_map(|process| Step::Exit { process }),
        1 => any::<Index>().prop_map(|process| Step::Snapshot { process }),
    ]
}

/// What an event tells of a process, in a history that a kernel could have made.
#[derive(Clone, Debug)]
enum Told {
    Fork {
        child: ProcessId,
        parent: ProcessId,
    },
    Exec {
        id: ProcessId,
        name: String,
        args: usize,
    },
    Exit {
        id: ProcessId,
    },
    Snapshot {
        id: ProcessId,
    },
}

/// The truth, without bounds: every process there ever was.
#[derive(Default)]
struct Model {
    parents: HashMap<ProcessId, Option<ProcessId>>,
    executables: HashMap<ProcessId, String>,
    live: Vec<ProcessId>,
}

impl Model {
    /// Turns random steps into a possible history, in which process ids are reused at once.
    fn history(&mut self, steps: &[Step]) -> Vec<Told> {
        let init = id(1, 0);
        self.parents.insert(init, None);
        self.executables.insert(init, String::new());
        self.live.push(init);
        let mut told = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let now = (number as u64 + 1) * STEP + 77;
            match step {
                Step::Fork { asker, tgid } => {
                    if self.live.iter().any(|live| live.tgid == *tgid) {
                        continue;
                    }
                    let (child, parent) = (id(*tgid, now), *asker.get(&self.live));
                    self.parents.insert(child, Some(parent));
                    self.executables.insert(child, self.executables[&parent].clone());
                    self.live.push(child);
                    told.push(Told::Fork { child, parent });
                }
                Step::Exec { process, args } => {
                    let id = *process.get(&self.live);
                    self.executables.insert(id, format!("program {number}"));
                    told.push(Told::Exec {
                        id,
                        name: format!("program {number}"),
                        args: *args,
                    });
                }
                Step::Exit { process } => {
                    let at = process.index(self.live.len());
                    if self.live[at].tgid != 1 {
                        told.push(Told::Exit {
                            id: self.live.remove(at),
                        });
                    }
                }
                Step::Snapshot { process } => told.push(Told::Snapshot {
                    id: *process.get(&self.live),
                }),
            }
        }
        told
    }

    fn tell(&self, tree: &mut Tree, told: &Told) -> Option<Ended> {
        let facts = |id: ProcessId| facts(id, self.parents[&id]);
        match told {
            Told::Fork { child, parent } => {
                let image = match tree.touch(&facts(*parent)) {
                    Some(parent) => Arc::clone(&parent.image),
                    None => Arc::clone(&tree.enter(facts(*parent), None).image),
                };
                tree.fork(facts(*child), &image);
                None
            }
            Told::Exec { id, name, args } => {
                tree.exec(facts(*id), image(name, *args));
                None
            }
            Told::Exit { id } => Some(tree.exit(facts(*id))),
            Told::Snapshot { id } => {
                let rounded = ProcessId {
                    start: BootTime(id.start.0 / TICK_NS * TICK_NS),
                    ..*id
                };
                tree.enter_snapshot(
                    Facts {
                        id: rounded,
                        ..facts(*id)
                    },
                    image("", 0),
                );
                None
            }
        }
    }
}

/// Whatever the tree says of any process there ever was is about that process.
fn assert_true(tree: &Tree, model: &Model) -> Result<(), TestCaseError> {
    for (id, parent) in &model.parents {
        if let Some(process) = tree.get(*id) {
            prop_assert!(process.id == *id || process.id.start.0 == id.start.0 / TICK_NS * TICK_NS);
            prop_assert_eq!(process.parent, *parent);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn bounded_and_never_wrong(
        steps in proptest::collection::vec(step(), 0..300),
        processes in 1..20_usize, exited in 0..10_usize, image_bytes in 500..4_000_usize,
    ) {
        let mut model = Model::default();
        let mut told_so_far = Model::default();
        let mut tree = tree(processes, exited, image_bytes);
        let history = model.history(&steps);
        told_so_far.executables.insert(id(1, 0), String::new());
        for told in &history {
            model.tell(&mut tree, told);
            prop_assert!(tree.len() <= processes);
            prop_assert!(tree.len() - tree.live() <= exited);
            prop_assert!(tree.image_bytes() <= image_bytes);
            assert_true(&tree, &model)?;
            // What runs is what was last executed by it or its ancestors before they forked it, or unknown.
            match told {
                Told::Fork { child, parent } => {
                    let name = told_so_far.executables[parent].clone();
                    told_so_far.executables.insert(*child, name);
                }
                Told::Exec { id, name, .. } => {
                    told_so_far.executables.insert(*id, name.clone());
                }
                Told::Exit { .. } | Told::Snapshot { .. } => {}
            }
            for (id, name) in &told_so_far.executables {
                let said = executable(&tree, *id).unwrap_or_default();
                prop_assert!(said.is_empty() || said == *name, "{id:?} runs {name}, not {said}");
            }
        }
    }

    /// With room for all of them, the order in which events come changes neither who lives nor who is whose child,
    /// and each process ends once.
    #[test]
    fn order_does_not_matter(
        steps in proptest::collection::vec(step(), 0..60),
        order in proptest::collection::vec(any::<u64>(), 60),
    ) {
        let mut model = Model::default();
        let history: Vec<_> = model.history(&steps).into_iter()
            .filter(|told| !matches!(told, Told::Snapshot { .. })).collect();
        let mut shuffled: Vec<_> = history.iter().zip(&order).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let mut tree = tree(1_000, 1_000, 1 << 20);
        for (told, _) in &shuffled {
            let ended = model.tell(&mut tree, told);
            prop_assert_ne!(ended, Some(Ended::Duplicate));
        }
        assert_true(&tree, &model)?;
        for told in &history {
            match told {
                Told::Exit { id } => {
                    prop_assert_ne!(tree.live_id(id.tgid), Some(*id));
                    prop_assert_eq!(model.tell(&mut tree, told), Some(Ended::Duplicate));
                }
                Told::Fork { child, .. } if model.live.contains(child) => {
                    prop_assert_eq!(tree.live_id(child.tgid), Some(*child));
                }
                _ => {}
            }
        }
    }
}
