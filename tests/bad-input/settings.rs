//! Settings: unknown ones, wrong types, values that cannot work, keys.

use std::path::Path;
use std::process::Command;

use crate::{folder, run, serve, sidetone};

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_name_wherever_it_stands() {
    let folder = folder();
    let file = folder.path().join("s.toml");
    std::fs::write(&file, "[rtp]\nshard = 2\n").unwrap();
    let nearest = "there is no setting `rtp.shard`; did you mean `rtp.shards`?";
    let by_file = sidetone(folder.path(), &["--config", "s.toml", "serve"]);
    by_file.refused(64, &["s.toml", nearest]);
    let by_flag = sidetone(folder.path(), &["serve", "--set", "rtp.shard=2"]);
    by_flag.refused(64, &["--set rtp.shard=2", nearest]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let by_environment =
        run(command.arg("serve").current_dir(folder.path()).env("SIDETONE__RTP__SHARD", "2"));
    by_environment.refused(64, &["environment variable SIDETONE__RTP__SHARD", nearest]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    let of_one = run(command.arg("serve").current_dir(folder.path()).env("SIDETONE_ARI_PASSWORD", "2"));
    of_one.refused(64, &["SIDETONE_ARI_PASSWORD", "it is SIDETONE__ARI__PASSWORD"]);
    sidetone(folder.path(), &["serve", "--set", "ari.foo=1"])
        .refused(64, &["no setting `ari.foo`", "config example"]);
    // Whatever the command: none runs on settings that are not understood.
    for command in [&["transcribe", "x.wav"][..], &["replay", "x.pcap", "--out", "o"], &["config", "show"]] {
        let ran = sidetone(folder.path(), &[&["--config", "s.toml"], command].concat());
        ran.refused(64, &[nearest]);
    }
}

#[test]
fn a_wrong_type_is_refused_with_its_line_or_its_flag() {
    let folder = folder();
    std::fs::write(folder.path().join("s.toml"), "[rtp]\nshards = \"many\"\n").unwrap();
    sidetone(folder.path(), &["-c", "s.toml", "serve"]).refused(64, &["s.toml", "line 2", "shards"]);
    std::fs::write(folder.path().join("s.toml"), "[rtp\n").unwrap();
    sidetone(folder.path(), &["-c", "s.toml", "serve"]).refused(64, &["s.toml", "line 1"]);
    serve(&["rtp.shards=many"]).refused(64, &["--set rtp.shards=many", "`rtp.shards`", "\"many\""]);
    serve(&["rtp.shards"]).refused(64, &["section.key=value"]);
    sidetone(folder.path(), &["-c", "none.toml", "serve"]).refused(64, &["none.toml", "No such file"]);
}

#[test]
fn values_that_cannot_work_are_refused_all_at_once() {
    let refused = serve(&["rtp.shards=99", "node.name=a b", "ari.url=localhost"]);
    refused.refused(64, &["rtp.shards is 99: use 1 to 16", "node.name", "ari.url", "http://host:port"]);
    serve(&["log.level=sidetone=loud"]).refused(64, &["`log.level`", "sidetone=loud", "info"]);
    let secret = serve(&["ari.password_file=/nowhere/secret"]);
    secret.refused(64, &["ari.password_file", "/nowhere/secret", "No such file"]);
    assert!(!secret.err.contains("settings file"), "{}", secret.err);
    serve(&["speech.hangover_ms=199"]).refused(64, &["speech.hangover_ms", "200 to 5000"]);
    for level in ["loud", "info,loud"] {
        serve(&[&format!("log.level={level}")])
            .refused(64, &["`log.level`", "`loud` is no level", "error, warn, info, debug, trace"]);
        let checked = sidetone(Path::new("."), &["check", "--set", &format!("log.level={level}")]);
        assert_eq!(checked.code, 64, "{}", checked.out);
        assert!(checked.out.contains("`loud` is no level"), "{}", checked.out);
    }
}

#[test]
fn keys_that_are_none_and_addresses_without_a_key_are_refused_without_showing_a_secret() {
    let ran = serve(&["http.keys=[\"st_acme_0123456789abcdef\", \"hunter2\"]"]);
    ran.refused(64, &["entry 2 of `http.keys`", "openssl rand -hex 32"]);
    assert!(!ran.err.contains("hunter2") && !ran.err.contains("0123456789abcdef"), "{}", ran.err);
    let folder = folder();
    let keys = folder.path().join("keys");
    let setting = format!("http.keys_file={}", keys.display());
    std::fs::write(&keys, "st_acme_0123456789abcdef\n\n# of the old dashboard\nhunter2\n").unwrap();
    let ran = serve(&[&setting]);
    ran.refused(64, &["entry 2 of `http.keys`", "openssl rand -hex 32"]);
    assert!(!ran.err.contains("hunter2") && !ran.err.contains("0123456789abcdef"), "{}", ran.err);
    std::fs::remove_file(&keys).unwrap();
    serve(&[&setting]).refused(64, &["http.keys_file", keys.to_str().unwrap(), "No such file"]);
    serve(&["http.keys=[\"st_acme_short\"]"]).refused(64, &["entry 1 of `http.keys`", "16 characters"]);
    serve(&["http.bind=0.0.0.0:18099"]).refused(64, &["http.bind", "http.keys", "127.0.0.1"]);
}
