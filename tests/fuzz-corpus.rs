//! The fuzzers' corpora, each replayed through what its fuzzer calls: whole, and cut off anywhere.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Cuts of one file, at most: of a long one every so many bytes.
const CUTS: usize = 1_000;

#[test]
fn every_corpus_holds_its_promises_whole_and_cut_off() {
    for (name, target) in targets::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            files += 1;
            target(&bytes);
            (0..bytes.len()).step_by(bytes.len() / CUTS + 1).for_each(|end| target(&bytes[..end]));
        }
        assert!(files > 0, "{name} has no corpus");
    }
}
