//! What techniques are for.

/// Tactics of techniques that models name, which say none themselves.
const TACTICS: [(&str, &str); 33] = [
    ("T1003", "credential-access"),
    ("T1005", "collection"),
    ("T1014", "defense-evasion"),
    ("T1018", "discovery"),
    ("T1021", "lateral-movement"),
    ("T1037", "persistence"),
    ("T1040", "credential-access"),
    ("T1046", "discovery"),
    ("T1048", "exfiltration"),
    ("T1053", "persistence"),
    ("T1055", "defense-evasion"),
    ("T1056", "credential-access"),
    ("T1059", "execution"),
    ("T1068", "privilege-escalation"),
    ("T1070", "defense-evasion"),
    ("T1071", "command-and-control"),
    ("T1078", "initial-access"),
    ("T1098", "persistence"),
    ("T1106", "execution"),
    ("T1110", "credential-access"),
    ("T1203", "execution"),
    ("T1205", "command-and-control"),
    ("T1222", "defense-evasion"),
    ("T1486", "impact"),
    ("T1542", "persistence"),
    ("T1543", "persistence"),
    ("T1546", "persistence"),
    ("T1547", "persistence"),
    ("T1548", "privilege-escalation"),
    ("T1552", "credential-access"),
    ("T1562", "defense-evasion"),
    ("T1565", "impact"),
    ("T1611", "privilege-escalation"),
];

/// The tactic that a technique, or its parent, serves first of all; `None` where no model names it.
#[must_use]
pub fn tactic_of(technique: &str) -> Option<&'static str> {
    let parent = technique.split('.').next()?;
    let found = TACTICS.iter().find(|(id, _)| *id == parent);
    found.map(|(_, tactic)| *tactic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_technique_serves_what_its_parent_does() {
        assert_eq!(tactic_of("T1059.004"), Some("execution"));
        assert_eq!(tactic_of("T9999"), None);
    }
}
