//! Models are found, and anything that is none is refused with a reason and a remedy, whatever bytes it has.

#![cfg(feature = "embedded-model")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sidetone::speech::model::{EMBEDDED_NAME, ModelSource};
use sidetone::speech::{ModelChoice, ModelError, ModelFile};

fn unpacked() -> Vec<u8> {
    let packed =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sidetone-prompts-en.bin.zst")).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}

fn model_at(path: &Path) -> ModelFile {
    ModelChoice::Path(path.into()).resolve(Path::new(".")).unwrap().unwrap()
}

fn refusal(directory: &Path, bytes: &[u8]) -> String {
    let path = directory.join("bad.bin");
    fs::write(&path, bytes).unwrap();
    let error = model_at(&path).load().err().expect("a damaged file must be refused");
    assert!(matches!(error, ModelError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("bad.bin") && text.contains("Get the file again"), "{text}");
    text
}

#[test]
fn settings_are_read() {
    assert_eq!(ModelChoice::parse("auto"), ModelChoice::Auto);
    assert_eq!(ModelChoice::parse("off"), ModelChoice::Off);
    assert_eq!(ModelChoice::parse("base.en"), ModelChoice::Named("base.en".into()));
    assert_eq!(ModelChoice::parse("./x.bin"), ModelChoice::Path(PathBuf::from("./x.bin")));
    assert_eq!(ModelChoice::parse("x.bin"), ModelChoice::Path(PathBuf::from("x.bin")));
}

#[test]
fn a_pulled_model_goes_before_the_one_inside() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(ModelChoice::Off.resolve(data.path()).unwrap(), None);
    let inside = ModelChoice::Auto.resolve(data.path()).unwrap().unwrap();
    assert_eq!((inside.name.as_str(), inside.is_demo()), (EMBEDDED_NAME, true));
    assert!(inside.warning().unwrap().contains("node.data/models"));

    let models = data.path().join("models");
    fs::create_dir(&models).unwrap();
    for (name, age) in [("ggml-tiny.bin", 10), ("ggml-base.en.bin", 5), ("note.txt", 0)] {
        let file = fs::File::create(models.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age)).unwrap();
    }
    let newest = ModelChoice::Auto.resolve(data.path()).unwrap().unwrap();
    assert_eq!((newest.name.as_str(), newest.warning()), ("base.en", None));
    let named = ModelChoice::parse("tiny").resolve(data.path()).unwrap().unwrap();
    assert_eq!(named.source, ModelSource::File(models.join("ggml-tiny.bin")));
    let missing = ModelChoice::parse("small").resolve(data.path()).unwrap_err().to_string();
    assert!(missing.contains("tiny, base.en") && missing.contains("put ggml-small.bin there"), "{missing}");
    let nowhere = ModelChoice::parse("/nowhere/x.bin").resolve(data.path()).unwrap_err();
    assert!(matches!(nowhere, ModelError::NoFile { .. }));
}

#[test]
fn the_model_inside_is_whole_and_a_copy_of_it_loads() {
    let shape = ModelFile::embedded().unwrap().verify().unwrap();
    assert_eq!((shape.vocabulary, shape.width, shape.encoder_layers, shape.mels), (51_864, 192, 3, 80));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ggml-copy.bin");
    fs::write(&path, unpacked()).unwrap();
    assert_eq!(model_at(&path).load().unwrap().name(), "copy");
}

#[test]
fn files_cut_short_are_refused_wherever_they_end() {
    let directory = tempfile::tempdir().unwrap();
    let whole = unpacked();
    let ends = [0, 3, 4, 20, 47, 60, 64_000, 70_000, 500_000, 1_000_000, whole.len() / 2, whole.len() - 1];
    for end in ends {
        let text = refusal(directory.path(), &whole[..end]);
        assert!(text.contains("it ends after") || text.contains("it lacks"), "{end}: {text}");
    }
    let page = refusal(directory.path(), b"<!DOCTYPE html><html>404</html>");
    assert!(page.contains("not a ggml Whisper model"), "{page}");
}

#[test]
fn numbers_that_no_model_has_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = unpacked();
    // Every number of the header, of the filters' header, the count of tokens and the length of the first one.
    let filters = 48;
    let tokens = filters + 8 + 80 * 201 * 4;
    let fields: Vec<usize> = (4..filters + 8).step_by(4).chain([tokens, tokens + 4]).collect();
    for at in fields {
        let kept: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
        for value in [-1, i32::MIN, i32::MAX, 0, 0x0101_0101] {
            if value == 0 && at == tokens + 4 {
                continue; // an empty token is a token
            }
            bytes[at..at + 4].copy_from_slice(&i32::to_le_bytes(value));
            refusal(directory.path(), &bytes);
        }
        bytes[at..at + 4].copy_from_slice(&kept);
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = unpacked();
    let name = b"encoder.conv1.weight";
    let at = whole.windows(name.len()).position(|w| w == name).unwrap();
    // Number of dimensions, length of the name, type, first dimension.
    for field in [at - 24, at - 20, at - 16, at - 12] {
        for value in [-1, 0, 99, i32::MAX] {
            let mut bytes = whole.clone();
            bytes[field..field + 4].copy_from_slice(&i32::to_le_bytes(value));
            refusal(directory.path(), &bytes);
        }
    }
    let mut renamed = whole.clone();
    renamed[at] = b'X';
    assert!(refusal(directory.path(), &renamed).contains("Xncoder.conv1.weight"));
}
