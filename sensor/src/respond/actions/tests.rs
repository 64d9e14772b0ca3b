use super::*;

fn read(text: &str) -> Result<Vec<Wanted>, String> {
    #[derive(Deserialize)]
    struct Config {
        action: Actions,
    }
    let config: Result<Config, _> = toml::from_str(text);
    config
        .map(|config| config.action.iter().collect())
        .map_err(|error| error.message().to_owned())
}

#[test]
fn one_or_several_in_order() {
    use ActionKind::{Block, Collect, KillTree};
    use Wanted::{Action, BlockDestination};
    assert_eq!(read("action = \"block\""), Ok(vec![Action(Block)]));
    assert_eq!(
        read("action = [\"collect\", \"kill_tree\", \"collect\", \"block_destination\", \"block\"]"),
        Ok(vec![
            Action(Collect),
            Action(KillTree),
            BlockDestination,
            Action(Block)
        ])
    );
}

#[test]
fn messages() {
    let error = |text| read(text).unwrap_err();
    insta::assert_snapshot!(error("action = []"), @r#"at least one action must be named; to have nothing done, set mode = "observe""#);
    insta::assert_snapshot!(error("action = \"resume\""), @r#""resume" is no action that a policy may ask for; there are kill, kill_tree, suspend, disconnect, block, isolate, revoke, quarantine, collect, block_destination"#);
    insta::assert_snapshot!(error("action = 7"), @"invalid type: integer `7`, expected the name of an action, or a list of such names");
}
