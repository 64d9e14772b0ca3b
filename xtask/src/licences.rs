//! Licences, sources and duplicates of everything that is linked in, against `deny.toml`.
//!
//! The file is cargo-deny's, but that takes longer to install than all the other checks take to run, and this needs
//! nothing that is not already here.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

use crate::cargo;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Checks every package of the lock file; the error names each that does not pass.
pub(crate) fn check() -> Result<()> {
    let path = cargo::root().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let policy: Policy = toml::from_str(&text).context("deny.toml")?;
    let allowed: Vec<Licensee> = policy
        .licenses
        .allow
        .iter()
        .map(|name| Licensee::parse(name).with_context(|| name.clone()))
        .collect::<Result<_>>()?;

    let metadata = cargo::output(cargo::cargo(None).args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;

    let faults: Vec<String> = metadata
        .packages
        .iter()
        .filter_map(|package| fault(package, &allowed))
        .collect();
    if !faults.is_empty() {
        bail!("not allowed by deny.toml:\n  {}", faults.join("\n  "));
    }
    let duplicates = duplicates(&metadata.packages);
    println!(
        "{} packages, all licences and sources allowed; {}",
        metadata.packages.len(),
        duplicates
    );
    Ok(())
}

fn fault(package: &Package, allowed: &[Licensee]) -> Option<String> {
    let Package {
        name,
        version,
        license,
        source,
    } = package;
    if source
        .as_ref()
        .is_some_and(|source| !source.starts_with("registry+"))
    {
        return Some(format!(
            "{name} {version}: comes from {}",
            source.as_deref().unwrap_or_default()
        ));
    }
    let Some(license) = license else {
        return Some(format!("{name} {version}: names no licence"));
    };
    match Expression::parse_mode(license, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(|req| allows(allowed, req)) => None,
        Ok(_) => Some(format!("{name} {version}: {license}")),
        Err(error) => Some(format!(
            "{name} {version}: cannot read the licence {license:?}: {error}"
        )),
    }
}

fn allows(allowed: &[Licensee], requirement: &LicenseReq) -> bool {
    allowed.iter().any(|licensee| licensee.satisfies(requirement))
}

fn duplicates(packages: &[Package]) -> String {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let twice: Vec<String> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| format!("{name} {}", versions.join(" and ")))
        .collect();
    if twice.is_empty() {
        "none twice".into()
    } else {
        format!("in several versions: {}", twice.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_licences_on_the_list_pass() {
        let allowed = [
            Licensee::parse("MIT").expect("MIT"),
            Licensee::parse("Apache-2.0").expect("Apache-2.0"),
        ];
        let package = |license: Option<&str>, source: Option<&str>| Package {
            name: "crate".into(),
            version: "1.0.0".into(),
            license: license.map(Into::into),
            source: source.map(Into::into),
        };
        let registry = Some("registry+https://example.org");
        for license in [
            "MIT",
            "MIT OR GPL-2.0-only",
            "Apache-2.0/MIT",
            "MIT AND Apache-2.0",
        ] {
            assert_eq!(
                fault(&package(Some(license), registry), &allowed),
                None,
                "{license}"
            );
        }
        for license in [
            "GPL-3.0-only",
            "LGPL-2.1-or-later",
            "MIT AND GPL-2.0-only",
            "mine",
        ] {
            assert!(
                fault(&package(Some(license), registry), &allowed).is_some(),
                "{license}"
            );
        }
        assert!(fault(&package(None, registry), &allowed).is_some(), "no licence");
        assert!(
            fault(&package(Some("MIT"), Some("git+https://example.org")), &allowed).is_some(),
            "from git"
        );
    }
}
