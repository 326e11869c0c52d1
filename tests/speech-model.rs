//! Models are found, and anything that is none is refused with a reason and a remedy, whatever bytes it has.

#![cfg(feature = "embedded-model")]

#[path = "../fuzz/src/tiny_model.rs"]
mod tiny_model;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sidetone::speech::model::{EMBEDDED_NAME, ModelSource};
use sidetone::speech::models::Shelf;
use sidetone::speech::recogniser::Request;
use sidetone::speech::{ModelChoice, ModelError, ModelFile};
use tiny_model::TinyModel;

fn unpacked() -> Vec<u8> {
    let packed =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sidetone-prompts-en.bin.zst")).unwrap();
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(&packed[..]).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
    bytes
}

fn shelf(folder: &Path) -> Shelf {
    Shelf { folder: folder.into(), language: "en".into(), states: 2, memory: None }
}

fn model_at(path: &Path) -> ModelFile {
    ModelChoice::Path(path.into()).resolve(&shelf(Path::new("."))).unwrap().unwrap()
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
    let folder = tempfile::tempdir().unwrap();
    let shelf = shelf(folder.path());
    assert_eq!(ModelChoice::Off.resolve(&shelf).unwrap(), None);
    let inside = ModelChoice::Auto.resolve(&shelf).unwrap().unwrap();
    assert_eq!((inside.name.as_str(), inside.is_demo()), (EMBEDDED_NAME, true));
    let words = inside.warning().unwrap();
    assert!(words.contains("for the demo") && words.contains("sidetone models pull"), "{words}");
    assert_eq!(ModelChoice::parse(EMBEDDED_NAME).resolve(&shelf).unwrap(), Some(inside));

    let tiny = TinyModel::new().bytes;
    for (name, age) in [("ggml-older.bin", 10), ("newer.bin", 5), ("note.txt", 0)] {
        let path = folder.path().join(name);
        fs::write(&path, &tiny).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age)).unwrap();
    }
    let newest = ModelChoice::Auto.resolve(&shelf).unwrap().unwrap();
    assert_eq!((newest.name.as_str(), newest.warning()), ("newer", None));
    let named = ModelChoice::parse("older").resolve(&shelf).unwrap().unwrap();
    assert_eq!(named.source, ModelSource::File(folder.path().join("ggml-older.bin")));
    let missing = |name| ModelChoice::parse(name).resolve(&shelf).unwrap_err().to_string();
    let small = missing("small");
    assert!(small.contains("newer, older") && small.contains("`sidetone models pull small`"), "{small}");
    assert!(missing("smal.en").contains("did you mean \"small.en\"?"));
    assert!(missing("parakeet").contains("put ggml-parakeet.bin there"));
    let nowhere = ModelChoice::parse("/nowhere/x.bin").resolve(&shelf).unwrap_err();
    assert!(matches!(nowhere, ModelError::NoFile { .. }));
}

#[test]
fn auto_passes_over_what_is_damaged_or_too_large_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut shelf = shelf(folder.path());
    fs::write(folder.path().join("ggml-noise.bin"), b"noise").unwrap();
    let mut cut = TinyModel::new().bytes;
    cut.pop();
    fs::write(folder.path().join("ggml-cut.bin"), &cut).unwrap();
    let inside = ModelChoice::Auto.resolve(&shelf).unwrap().unwrap();
    assert!(inside.is_demo());
    let words = inside.warning().unwrap();
    for part in ["ggml-noise.bin", "no `ggml` magic", "ggml-cut.bin", "it ends after", "for the demo"] {
        assert!(words.contains(part), "{part}: {words}");
    }

    fs::write(folder.path().join("ggml-good.bin"), TinyModel::new().bytes).unwrap();
    let good = ModelChoice::Auto.resolve(&shelf).unwrap().unwrap();
    assert_eq!((good.name.as_str(), good.passed_over.len()), ("good", 2));
    // Two states of 195 MB and the file: half of 0.7 GB is too little, half of 0.8 GB is enough.
    shelf.memory = Some(700_000_000);
    let inside = ModelChoice::Auto.resolve(&shelf).unwrap().unwrap();
    let words = inside.warning().unwrap();
    assert!(
        inside.is_demo() && words.contains("the model good is passed over: with 2 recognisers"),
        "{words}"
    );
    shelf.memory = Some(800_000_000);
    assert!(!ModelChoice::Auto.resolve(&shelf).unwrap().unwrap().is_demo());
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

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tiny = TinyModel::new();
    let spoilt = |name: &str, bytes: &[u8]| {
        let (_, place) = tiny.tensors.iter().find(|(n, _)| n == name).unwrap();
        let mut file = tiny.bytes.clone();
        // The last block of them.
        file[place.end - 18..][..bytes.len()].copy_from_slice(bytes);
        refusal(directory.path(), &file)
    };
    // Not a number as Q4_0's scale, infinite as a half.
    assert!(spoilt("decoder.token_embedding.weight", &[0, 0xfe]).contains("decoder.token_embedding.weight"));
    assert!(spoilt("encoder.conv2.weight", &[0, 0x7c]).contains("no number, or is infinite"));
    let single = f32::NAN.to_le_bytes();
    let mut file = tiny.bytes.clone();
    let (_, place) = tiny.tensors.iter().find(|(n, _)| n == "decoder.ln.bias").unwrap();
    file[place.start..][..4].copy_from_slice(&single);
    assert!(refusal(directory.path(), &file).contains("decoder.ln.bias"));
    let mut file = tiny.bytes.clone();
    file[60..64].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(refusal(directory.path(), &file).contains("a mel filter"));
}

/// whisper.cpp throws what nobody catches when it looks for it.
#[test]
fn a_vocabulary_without_a_space_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut tiny = TinyModel::new();
    tiny.bytes[tiny.blank] = b'x';
    assert!(refusal(directory.path(), &tiny.bytes).contains("lacks the token for a space"));
}

#[test]
fn what_comes_behind_the_last_tensor_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tiny = TinyModel::new();
    let (_, last) = tiny.tensors.last().unwrap();
    let head = 12 + 4 + "decoder.ln.bias".len();
    let twice = [&tiny.bytes[..], &tiny.bytes[last.start - head..]].concat();
    assert!(refusal(directory.path(), &twice).contains("decoder.ln.bias"));
    for more in [1, 4, 11, 12, 400] {
        refusal(directory.path(), &[&tiny.bytes[..], &vec![0; more]].concat());
    }
}

/// Every weight a number, and none that makes sense: what comes of it is nonsense, and the process lives.
#[test]
fn the_largest_numbers_there_are_end_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut tiny = TinyModel::new();
    for (name, place) in tiny.tensors.clone() {
        let data = &mut tiny.bytes[place];
        if name.contains("ln") {
            data.chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&f32::MAX.to_le_bytes()));
        } else if name.ends_with("weight") && name.contains("conv") {
            data.chunks_exact_mut(2).for_each(|half| half.copy_from_slice(&0x7bff_u16.to_le_bytes()));
        } else if name.ends_with("weight") {
            data.chunks_exact_mut(18).for_each(|block| {
                block.fill(0xff);
                block[..2].copy_from_slice(&0x7bff_u16.to_le_bytes());
            });
        }
    }
    let path = directory.path().join("ggml-huge.bin");
    fs::write(&path, &tiny.bytes).unwrap();
    let mut recogniser = model_at(&path).load().unwrap().recogniser().unwrap();
    let audio: Vec<f32> = (0..16_000).map(|i| (i as f32 * 0.07).sin() * 0.5).collect();
    let request = Request { language: "en".into(), prompt: None, partial: false };
    // Words or an error: either is an answer.
    if let Ok(hypothesis) = recogniser.recognise(&audio, &request) {
        assert!(hypothesis.words.len() <= 100, "{} words", hypothesis.words.len());
    }
}

#[test]
fn of_a_long_vocabulary_the_model_tells_what_it_leaves_out() {
    let model = sidetone::speech::ModelFile::embedded().unwrap().load().unwrap();
    assert_eq!(model.left_out_of("Sidetone"), None);
    let text = (0..100).map(|i| format!("word{i}")).collect::<Vec<_>>().join(", ");
    let cut = model.left_out_of(&text).unwrap();
    assert!(text.starts_with(&cut) && cut.starts_with("word0, word1") && !cut.contains("word99"), "{cut}");
}
