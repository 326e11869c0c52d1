//! What a start finds taken, or does not find.

use std::net::{TcpListener, UdpSocket};

use crate::transcribe::prompt_file;
use crate::{folder, serve, sidetone};

#[test]
fn a_data_folder_is_for_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::fs::File::create(folder.path().join(".lock")).unwrap();
    other.lock().unwrap();
    let data = format!("node.data={}", folder.path().display());
    serve(&[&data]).refused(1, &["another Sidetone uses node.data", "a folder of its own"]);
}

#[test]
fn a_port_in_use_is_named_by_its_setting() {
    let http = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = http.local_addr().unwrap();
    serve(&[&format!("http.bind={address}")])
        .refused(1, &["`http.bind`", &address.to_string(), "another process has this port"]);
    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = rtp.local_addr().unwrap();
    serve(&[&format!("rtp.bind={address}")])
        .refused(1, &["rtp.bind", &address.port().to_string(), "in use", "set rtp.bind to a free port"]);
    serve(&["rtp.bind=192.0.2.1:14000"])
        .refused(1, &["rtp.bind", "192.0.2.1", "not an address of this machine"]);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused_at_the_start() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("data");
    // Not even root may make files in /proc.
    for data in [below.to_str().unwrap(), "/proc"] {
        let setting = format!("node.data={data}");
        serve(&[&setting]).refused(1, &["node.data", data, "choose a folder this user may write to"]);
    }
}

#[test]
fn a_model_that_is_not_there_or_is_none_is_refused_with_the_remedy() {
    serve(&["speech.model=base.en"]).refused(
        1,
        &["\"base.en\"", "data/models", "`sidetone models pull base.en` gets it", "speech.model"],
    );
    serve(&["speech.model=/nowhere/m.bin"]).refused(1, &["speech.model", "/nowhere/m.bin", "\"auto\""]);

    let folder = folder();
    let whole = zstd_model();
    let cut = folder.path().join("cut.bin");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let noise = folder.path().join("noise.bin");
    std::fs::write(&noise, vec![7; 100_000]).unwrap();
    for model in [&cut, &noise] {
        let ran = serve(&[&format!("speech.model={}", model.display())]);
        ran.refused(1, &[model.to_str().unwrap(), "cannot be used", "Get the file again"]);
        assert!(!ran.err.contains("transcribing"), "it says it transcribes: {}", ran.err);
        // The other commands that need it say the same.
        let wav = prompt_file(folder.path(), "digit-5");
        let args = ["transcribe", &wav, "--model", model.to_str().unwrap()];
        sidetone(folder.path(), &args).refused(1, &[model.to_str().unwrap(), "cannot be used"]);
    }
    let wav = prompt_file(folder.path(), "digit-2");
    sidetone(folder.path(), &["transcribe", &wav, "--model", "off"]).refused(1, &["--model"]);
}

/// The demonstration model, unpacked.
fn zstd_model() -> Vec<u8> {
    use std::io::Read;
    let packed =
        std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/sidetone-prompts-en.bin.zst"));
    let mut model = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(packed.unwrap()).unwrap().read_to_end(&mut model).unwrap();
    model
}
