//! `sidetone models` as a process: exit codes, output, signals, limits, proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::model_server::{Fault, ModelServer};
use super::{TINY, json, range, until};

struct House(tempfile::TempDir);

impl House {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn models(&self) -> PathBuf {
        self.0.path().join("data/models")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
        command.args(["models"]).args(args).current_dir(self.0.path()).env("NO_COLOR", "1");
        for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("no signal"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{all}");
        for word in words {
            assert!(all.contains(word), "`{word}` is not in: {all}");
        }
    }
}

#[test]
fn a_model_is_pulled_listed_verified_and_used() {
    let house = House::new();
    house
        .run(&["list", "--here"])
        .says(0, &["In use is the model in the binary", "sidetone models pull base.en"]);
    house.run(&["verify"]).says(0, &["no models in"]);
    let server = ModelServer::start(TINY.clone(), []);
    let pulled = house.run(&["pull", "ggml-mine.bin", "--from", &server.url()]);
    pulled.says(0, &["mine is here: ", "ggml-mine.bin", "no checksum", "\"auto\" takes mine"]);
    // Without a terminal, lines.
    pulled.says(0, &["sidetone: mine of 3 MB, from the start", "mine: all is here, checking it"]);
    house.run(&["pull", "mine", "--from", &server.url()]).says(0, &["mine is here already"]);
    let quiet = house.run(&["pull", "mine", "-q", "--from", &server.url()]);
    assert_eq!(quiet.err, "");

    house.run(&["list", "--here"]).says(0, &["mine", "here, in use", "English"]);
    house.run(&["verify"]).says(0, &["good  mine", "when it was pulled"]);
    let record = json(&house.models().join("ggml-mine.bin.pulled.json"));
    assert_eq!(record["bytes"], TINY.len());

    let path = house.models().join("ggml-mine.bin");
    let mut bytes = TINY.clone();
    *bytes.last_mut().unwrap() = 1;
    fs::write(&path, bytes).unwrap();
    house
        .run(&["verify"])
        .says(1, &["BAD   mine", "its SHA-256 is", "`sidetone models pull mine` gets it again"]);
    let found: Value = serde_json::from_str(&house.run(&["verify", "mine", "--json"]).out).unwrap();
    assert_eq!((&found["good"], &found["models"][0]["name"]), (&Value::Bool(false), &"mine".into()));
    house.run(&["verify", "base.en"]).says(1, &["BAD   base.en", "`sidetone models pull base.en` gets it"]);
}

#[test]
fn the_list_knows_what_is_there() {
    let house = House::new();
    fs::create_dir_all(house.models()).unwrap();
    let file = |name: &str, length: u64| {
        let file = fs::File::create(house.models().join(name)).unwrap();
        file.set_len(length).unwrap();
    };
    file("ggml-tiny.bin.part", 77_691_713 / 2);
    file("ggml-small.bin", 17);
    file("noise.bin", 1_000);
    let list: Value = serde_json::from_str(&house.run(&["list", "--json"]).out).unwrap();
    assert!(list["folder"].as_str().unwrap().ends_with("data/models"));
    let row = |name: &str| {
        let all = list["models"].as_array().unwrap();
        all.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let tiny = row("tiny");
    assert_eq!((tiny["state"].as_str(), tiny["here_bytes"].as_u64()), (Some("partial"), Some(38_845_856)));
    assert_eq!((tiny["bytes"].as_u64(), tiny["languages"].as_u64()), (Some(77_691_713), Some(99)));
    assert_eq!(row("small")["state"], "damaged");
    assert_eq!(row("noise")["state"], "damaged");
    assert_eq!(
        (row("base")["state"].as_str(), row("base")["in_use"].as_bool()),
        (Some("absent"), Some(false))
    );
    assert_eq!(row("base.en")["languages"], 1);
    assert_eq!(row("large-v3-turbo")["languages"], 100);
    assert_eq!(list["models"].as_array().unwrap().len(), 34);

    let here = house.run(&["list", "--here"]);
    here.says(0, &["49 %: pull goes on from there", "damaged: pull it again"]);
    assert_eq!(here.out.lines().take_while(|line| !line.is_empty()).count(), 4, "{}", here.out);
}

#[test]
fn names_and_places_that_are_none_are_refused() {
    let house = House::new();
    house.run(&["pull", "../x"]).says(2, &["a model's name has letters"]);
    house.run(&["pull", "base-en"]).says(1, &["there is no model base-en: did you mean base.en?", "--from"]);
    house
        .run(&["pull", "tiny", "--from", "/nowhere"])
        .says(1, &["/nowhere is no folder", "https://host/folder"]);
    house.run(&["pull", "tiny", "--from", "http://"]).says(1, &["is no URL"]);
    let settings = ["list", "--set", "speech.models_url="];
    house.run(&settings).says(64, &["speech.models_url is empty"]);
    let server = ModelServer::start(TINY.clone(), []);
    let other = ["pull", "tiny", "--from", &server.url()];
    house.run(&other).says(1, &["and tiny has 77691713", "take another mirror"]);
}

#[test]
fn the_settings_say_where_from_and_where_to() {
    let house = House::new();
    let server = ModelServer::start(TINY.clone(), []);
    let url = format!("speech.models_url={}", server.url());
    house
        .run(&["pull", "mine", "--set", &url, "--set", "speech.models_dir=elsewhere"])
        .says(0, &["elsewhere/ggml-mine.bin"]);
    assert!(house.0.path().join("elsewhere/ggml-mine.bin").is_file());
    assert!(!house.models().exists());
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let house = House::new();
    let proxy = ModelServer::start(TINY.clone(), [Fault::Cut(1_000_000)]);
    let args = ["pull", "mine", "--from", "http://models.invalid/whisper"];
    let through = format!("http://{}", proxy.address);
    let ran = Ran::of(house.command(&args).env("http_proxy", through).output().unwrap());
    ran.says(0, &["mine is here"]);
    let asked = proxy.asked();
    assert_eq!(asked[0].target, "http://models.invalid/whisper/ggml-mine.bin");
    assert_eq!(asked[1].range, range(1_000_000));
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let house = House::new();
    let server = ModelServer::start(TINY.clone(), [Fault::Stall(1_200_000)]);
    let args = ["pull", "mine", "--from", &server.url()];
    let child = house.command(&args).spawn().unwrap();
    let part = house.models().join("ggml-mine.bin.part");
    until(|| fs::metadata(&part).is_ok_and(|meta| meta.len() == 1_200_000));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    ran.says(130, &["stopped; what is there is kept", "40 %"]);
    assert_eq!(fs::metadata(&part).unwrap().len(), 1_200_000);

    house.run(&args).says(0, &["mine is here"]);
    assert_eq!(server.ranges(), [None, range(1_200_000)]);
    assert_eq!(fs::read(house.models().join("ggml-mine.bin")).unwrap(), *TINY);
}

#[test]
fn a_file_size_limit_is_told_and_what_is_there_kept() {
    let house = House::new();
    let server = ModelServer::start(TINY.clone(), []);
    let url = server.url();
    let args = ["models", "pull", "mine", "--from", &url];
    let limited = Command::new("sh")
        // In blocks of 512 bytes or of 1024, as the shell has it: 1 or 2 MB.
        .args(["-c", "ulimit -f 2000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sidetone")])
        .args(args)
        .current_dir(house.0.path())
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    Ran::of(limited).says(1, &["ggml-mine.bin.part", "ulimit -f", "LimitFSIZE", "is kept"]);
    let kept = fs::metadata(house.models().join("ggml-mine.bin.part")).unwrap().len();
    assert!((1_000_000..=2_048_000).contains(&kept), "{kept}");
    house.run(&args[1..]).says(0, &["mine is here"]);
    assert_eq!(server.ranges(), [None, range(kept as usize)]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let house = House::new();
    fs::write(house.0.path().join("data"), "a file").unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    house
        .run(&["pull", "mine", "--from", from.to_str().unwrap()])
        .says(1, &["cannot write data/models", "speech.models_dir"]);
}
