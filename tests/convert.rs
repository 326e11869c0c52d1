//! `sidetone convert` against sox and against Asterisk's own converter.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::lab::{Lab, Version};

const PROMPTS: [&str; 3] = ["vm-goodbye", "hello-world", "tt-monkeys"];

fn sidetone(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sidetone")).arg("convert").args(args).output().expect("sidetone")
}

fn converted(input: &Path, output: &Path) {
    let done = sidetone(&[text(input), text(output)]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn sox(args: &[&str]) {
    // Without dither: what is compared is the codec.
    let done = Command::new("sox").arg("-D").args(args).output().expect("sox (scripts/setup installs it)");
    assert!(done.status.success(), "sox {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Samples of a file as sox reads them.
fn samples(path: &Path, kind: &[&str]) -> Vec<i16> {
    let out = Command::new("sox")
        .args(["-D"])
        .args(kind)
        .args([text(path), "-t", "raw", "-e", "signed", "-b", "16", "-L", "-"])
        .output()
        .expect("sox");
    assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
    out.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// The lab's prompts as WAV files of 8 kHz.
fn prompts(lab: &Lab, folder: &Path) -> Vec<PathBuf> {
    PROMPTS
        .iter()
        .map(|name| {
            let path = folder.join(name).with_extension("wav");
            let from = Path::new(lab.env("LAB_SOUNDS")).join(name).with_extension("wav");
            std::fs::copy(&from, &path).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            path
        })
        .collect()
}

#[test]
fn real_files_become_what_sox_makes_of_them_to_the_sample() {
    let lab = Lab::start(Version::V22);
    let folder = tempfile::tempdir().unwrap();
    for prompt in prompts(&lab, folder.path()) {
        for (extension, kind) in [
            ("gsm", &["-t", "gsm"][..]),
            ("alaw", &["-t", "al", "-r", "8000", "-c", "1"]),
            ("ulaw", &["-t", "ul", "-r", "8000", "-c", "1"]),
            ("sln", &["-t", "raw", "-e", "signed", "-b", "16", "-r", "8000", "-c", "1"]),
        ] {
            let (ours, theirs) = (prompt.with_extension(extension), prompt.with_extension("theirs"));
            converted(&prompt, &ours);
            sox(&[&[text(&prompt)], kind, &[text(&theirs)]].concat());
            let (a, b) = (std::fs::read(&ours).unwrap(), std::fs::read(&theirs).unwrap());
            let different = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            println!("{}: {different} of {} codes other than sox's", ours.display(), a.len());
            // For A-law and µ-law sox rounds twice, to 13 and 14 bits first: other codes, one step away.
            assert_eq!(a.len(), b.len());
            assert!(
                different == 0 || matches!(extension, "alaw" | "ulaw"),
                "{}: {different} differ",
                ours.display()
            );
            assert!(different < a.len() / 5, "{}: {different} differ", ours.display());

            let back = prompt.with_extension(format!("{extension}.wav"));
            converted(&ours, &back);
            assert!(samples(&back, &[]) == samples(&ours, kind), "{} decoded", ours.display());
        }
        let wav49 = prompt.with_extension("wav49");
        converted(&prompt, &wav49);
        let theirs = samples(&wav49, &["-t", "wav"]);
        let back = prompt.with_extension("wav49.wav");
        converted(&wav49, &back);
        let ours = samples(&back, &[]);
        assert!(ours[..] == theirs[..ours.len()], "{} decoded", wav49.display());
    }
}

/// What Asterisk makes of `input`; its answer is what its console says.
fn asterisk(lab: &Lab, input: &Path, output: &Path) -> String {
    lab.cli(&format!("file convert {} {}", text(input), text(output)))
}

#[test]
fn real_files_become_what_asterisk_makes_of_them() {
    let lab = Lab::start(Version::V22);
    let folder = tempfile::tempdir().unwrap();
    for prompt in prompts(&lab, folder.path()) {
        // Not G.722: Asterisk resamples before it, by a filter of its own.
        for extension in ["gsm", "alaw", "ulaw", "sln"] {
            let (ours, theirs) =
                (prompt.with_extension(extension), folder.path().join("theirs").with_extension(extension));
            converted(&prompt, &ours);
            let said = asterisk(&lab, &prompt, &theirs);
            let (a, b) = (std::fs::read(&ours).unwrap(), std::fs::read(&theirs).expect(&said));
            // Asterisk leaves out the last 22 samples of a WAV file of its own.
            let short = if extension == "sln" { 44 } else { 33 };
            assert!(a.len() - b.len() <= short, "{}: {} and {} bytes", ours.display(), a.len(), b.len());
            let different = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            println!("{}: {different} of {} codes other than Asterisk's", ours.display(), b.len());
            assert_eq!(different, 0, "{}", ours.display());
        }
    }
}

#[test]
fn real_asterisk_plays_every_kind_that_is_written() {
    let lab = Lab::start(Version::V22);
    let folder = tempfile::tempdir().unwrap();
    let prompt = &prompts(&lab, folder.path())[0];
    let length = samples(prompt, &[]).len();
    for extension in ["wav", "wav16", "wav49", "gsm", "alaw", "ulaw", "sln", "sln16", "sln48", "g722"] {
        let ours = folder.path().join("ours").with_extension(extension);
        converted(prompt, &ours);
        let decoded = folder.path().join("decoded").with_extension("sln");
        let said = asterisk(&lab, &ours, &decoded);
        let bytes = std::fs::metadata(&decoded).unwrap_or_else(|_| panic!("{extension}: {said}")).len();
        // Asterisk leaves out the last frame where it is not full.
        assert!((bytes / 2).abs_diff(length as u64) <= 320, "{extension}: {} samples of {length}", bytes / 2);
    }
}

#[test]
fn real_asterisk_converts_over_ami_what_it_is_told_to() {
    let lab = Lab::start(Version::V22);
    let folder = tempfile::tempdir().unwrap();
    let prompt = &prompts(&lab, folder.path())[0];
    let by_asterisk = |from: &Path, to: &Path| {
        let (url, user) =
            (format!("ami.url=tcp://{}", lab.ami_addr()), format!("ami.user={}", lab.ami_user()));
        let password = format!("ami.password={}", lab.ami_password());
        sidetone(&[
            text(from),
            text(to),
            "--by",
            "asterisk",
            "--set",
            &url,
            "--set",
            &user,
            "--set",
            &password,
        ])
    };
    for extension in ["gsm", "alaw", "wav49", "sln16"] {
        let out = folder.path().join("with a space").with_extension(extension);
        let done = by_asterisk(prompt, &out);
        assert!(done.status.success(), "{extension}: {}", String::from_utf8_lossy(&done.stderr));
        let direct =
            folder.path().join("direct").with_extension(if extension == "wav49" { "WAV" } else { extension });
        let said = asterisk(&lab, prompt, &direct);
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&direct).expect(&said), "{extension}");
    }
    let before = std::fs::read_dir(&folder).unwrap().count();
    let nothing = folder.path().join("no.wav");
    std::fs::write(&nothing, "no audio").unwrap();
    let done = by_asterisk(&nothing, &folder.path().join("no.gsm"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("Asterisk did not convert it"), "{said}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), before + 1, "nothing is left behind");
}

#[test]
fn a_folder_is_converted_and_what_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::create_dir_all(from.join("deep")).unwrap();
    for name in ["a.sln", "deep/b.sln"] {
        std::fs::write(from.join(name), vec![1; 32_000]).unwrap();
    }
    std::fs::write(from.join("notes.txt"), "no audio").unwrap();
    std::fs::write(from.join("c.gsm"), "no GSM either, however long it may be").unwrap();
    let done = sidetone(&[text(&from), text(&to), "--to", "wav"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("c.gsm") && said.contains("1 of 3 files") && !said.contains("notes"), "{said}");
    assert!(to.join("a.wav").exists() && to.join("deep/b.wav").exists() && !to.join("c.wav").exists());

    let again = sidetone(&[text(&from.join("a.sln")), text(&to.join("a.wav"))]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    let forced = sidetone(&[text(&from.join("a.sln")), text(&to.join("a.wav")), "--force", "--quiet"]);
    assert!(
        forced.status.success() && forced.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&forced.stderr)
    );

    // Asterisk keeps a message in several formats.
    std::fs::write(from.join("a.ulaw"), vec![1; 16_000]).unwrap();
    std::fs::write(from.join("a.gsm"), vec![0xD0; 3_300]).unwrap();
    let done = sidetone(&[text(&from), text(&folder.path().join("once")), "--to", "wav"]);
    let said = String::from_utf8_lossy(&done.stderr);
    for left_out in ["a.ulaw", "a.gsm"] {
        let words = format!("{left_out}: left out for {}", from.join("a.sln").display());
        assert!(said.contains(&words), "{said}");
    }
    assert!(said.contains("1 of 3 files"), "{said}");
    assert_eq!(samples(&folder.path().join("once/a.wav"), &[]), [257; 16_000]);
}

#[test]
fn kinds_that_are_not_written_and_channels_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a.sln");
    std::fs::write(&input, vec![1; 3_200]).unwrap();
    for (args, words) in [
        (&["a.sln", "a.mp3"][..], "no kind of audio that is written"),
        (&["a.sln", "a"], "no kind of audio that is written"),
        (&["a.sln", "b.wav", "--channel", "right"], "there is no channel 2"),
        (&["a.sln", "b.ulaw", "--rate", "16000"], "has no 16000 samples a second"),
        (&["missing.wav", "b.wav"], "cannot be opened"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_sidetone"))
            .arg("convert")
            .args(args)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(words), "{args:?}: {said}");
    }
}
