//! Layers point downwards only (ARCHITECTURE.md): reads the paths that each source file uses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each top-level module may use of the crate, lowest first. A module not listed fails the test.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let ground = vec!["media", "cause", "clock", "config", "crash", "files", "telemetry", "tls", "audio"];
    let parts = ["net", "asterisk", "recording", "speech", "store"];
    let with = |below: &[&'static str], more: &[&'static str]| [below, more].concat();
    let calls = with(&ground, &parts);
    let jobs = with(&calls, &["calls"]);
    let api = with(&jobs, &["jobs"]);
    let cli = with(&api, &["api", "cli", "emulator"]);
    let mut table = BTreeMap::from([
        ("media", vec![]),
        ("audio", vec!["media", "crash", "files"]),
        ("cause", vec![]),
        ("clock", vec!["media"]),
        ("config", vec![]),
        ("crash", vec![]),
        // For tests, fuzzing and `sidetone bench`: nothing of the server uses it.
        ("emulator", vec!["media"]),
        ("files", vec!["crash"]),
        ("telemetry", vec![]),
        ("tls", vec![]),
        ("calls", calls),
        ("jobs", jobs),
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

/// Where a file stands in the crate: `calls/hub/kind.rs` is `["calls", "hub", "kind"]`.
fn module_path(relative: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        relative.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod");
    path
}

/// The top-level modules that a file names, each with its line: by `crate::NAME`, or by as many `super::` as lead out of
/// the file's own top-level module, `depth` levels down. Relies on the formatter: a module within a file opens and closes
/// at the left margin.
fn names_used(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect();
    let rest_from = |line: usize, at: usize| [&[&code[line][at..]], &code[line + 1..]].concat().join("\n");
    let (mut names, mut inline) = (Vec::new(), 0);
    for (number, line) in code.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(' ') && words.contains(&"mod") && words.last() == Some(&"{") {
            inline = 1;
        } else if *line == "}" {
            inline = 0;
        }
        let to_root = "super::".repeat(depth + inline);
        for start in ["crate::", &to_root] {
            for (at, _) in line.match_indices(start) {
                // Neither `mycrate::` nor a chain that is longer, which no compiler takes.
                if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let tree = rest_from(number, at + start.len());
                names.extend(first_segments(&tree).into_iter().map(|name| (number + 1, name)));
            }
        }
    }
    names
}

/// The first segment of a path, or of each path of the group that `tree` begins with, however it is broken into lines.
fn first_segments(tree: &str) -> Vec<String> {
    let segment = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect()
    };
    let Some(group) = tree.strip_prefix('{') else { return vec![segment(tree)] };
    let (mut open, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open > 0 => open -= 1,
            ',' | '}' if open == 0 => {
                found.push(segment(&group[begin..at]));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
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
        let path = module_path(relative);
        let module = path[0].as_str();
        if module == "lib" {
            continue;
        }
        let may = allowed.get(module).unwrap_or_else(|| panic!("{module} has no layer: give it one here"));
        for (line, name) in names_used(&std::fs::read_to_string(&file).unwrap(), path.len()) {
            let known = allowed.contains_key(name.as_str()) || name == "*";
            if name != module && known && !may.contains(&name.as_str()) {
                wrong.push(format!("{}:{line}: {module} uses {name}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_way_of_naming_another_part_is_seen() {
    let seen = |text: &str, depth: usize| -> Vec<String> {
        names_used(text, depth).into_iter().map(|(line, name)| format!("{line} {name}")).collect()
    };
    assert_eq!(seen("use crate::calls::event::Envelope;", 1), ["1 calls"]);
    assert_eq!(seen("use crate::{api::x, net};", 1), ["1 api", "1 net"]);
    let broken = "use std::io;\nuse crate::{\n    api::{x, y},\n    // net,\n    calls::hub::{\n        EventHub,\n    },\n    *,\n};";
    assert_eq!(seen(broken, 1), ["2 api", "2 calls", "2 *"]);
    assert_eq!(seen("fn f(x: &crate::net::Seat, y: mycrate::api::X) {}", 1), ["1 net"]);
    assert_eq!(seen("    // use crate::api;", 1), [""; 0]);

    assert_eq!(seen("use super::super::api::Problem;", 2), ["1 api"]);
    assert_eq!(seen("use super::super::{\n    api, calls::{a, b},\n};", 2), ["1 api", "1 calls"]);
    assert_eq!(seen("use super::super::hub::EventHub;", 3), [""; 0], "stays in its folder");
    let tests = "use super::net;\n#[cfg(test)]\nmod tests {\n    use super::own;\n    use super::super::api;\n}\nuse super::cli;";
    assert_eq!(seen(tests, 1), ["1 net", "5 api", "7 cli"]);
}

#[test]
fn a_file_knows_how_deep_it_lies() {
    let depth = |path: &str| module_path(Path::new(path)).len();
    assert_eq!(
        [depth("clock.rs"), depth("media/mod.rs"), depth("calls/hub.rs"), depth("calls/hub/kind.rs")],
        [1, 1, 2, 3]
    );
}
