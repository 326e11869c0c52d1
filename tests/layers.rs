//! Layers point downwards only (ARCHITECTURE.md): reads the paths that each source file uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each top-level module may use of the crate, lowest first. A module not listed fails the test.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let ground = vec!["media", "clock", "config", "files", "telemetry"];
    let parts = ["net", "asterisk", "recording", "speech"];
    let with = |below: &[&'static str], more: &[&'static str]| [below, more].concat();
    let calls = with(&ground, &parts);
    let api = with(&calls, &["calls"]);
    let cli = with(&api, &["api", "cli"]);
    let mut table = BTreeMap::from([
        ("media", vec![]),
        ("clock", vec!["media"]),
        ("config", vec![]),
        ("files", vec![]),
        ("telemetry", vec![]),
        ("calls", calls),
        ("api", api),
        ("cli", cli.clone()),
        ("main", cli),
    ]);
    table.extend(parts.map(|part| (part, ground.clone())));
    table
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every `crate::NAME` in a line; `use crate::{a, b}` counts each of its names.
fn crate_paths(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let rest = &line[at + found.len()..];
        let first: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(group) = rest.strip_prefix('{') {
            let top = group.split('}').next().unwrap_or_default();
            names.extend(top.split(',').map(|n| n.trim().split(':').next().unwrap_or_default().to_owned()));
        } else {
            names.push(first);
        }
    }
    names
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "found only {} files", files.len());
    let allowed = allowed();
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let may = allowed.get(module).unwrap_or_else(|| panic!("{module} has no layer: give it one here"));
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for name in crate_paths(line) {
                if name != module && allowed.contains_key(name.as_str()) && !may.contains(&name.as_str()) {
                    wrong.push(format!("{}:{}: {module} uses {name}", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn both_ways_of_writing_a_use_are_seen() {
    assert_eq!(crate_paths("use crate::calls::event::Envelope;"), ["calls"]);
    assert_eq!(crate_paths("use crate::{api::x, net};"), ["api", "net"]);
}
