//! Model files that are not what they say.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::OnceLock;

use sidetone::speech::ggml::{check, layout};

use super::tiny_model::TinyModel;

/// Any bytes as a model, if the first one is even; else a good model with changes: the first byte of each chooses its kind, the
/// next three a place, and the rest is what is put there.
///
/// What passes is read once more by a loader that trusts it as whisper.cpp does: it must find all that it wants, and nothing
/// must be left.
pub fn ggml(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let file = if first % 2 == 0 { rest.to_vec() } else { changed(rest) };
    let outline = layout(&mut Cursor::new(&file));
    let whole = check(&mut Cursor::new(&file));
    match (&outline, &whole) {
        (Ok(outline), Ok(whole)) => assert_eq!(outline, whole),
        (_, Err(flaw)) => {
            let words = flaw.to_string();
            assert!(!words.is_empty() && words.len() < 2_048, "{words}");
        }
        (Err(flaw), Ok(_)) => panic!("whole, but for its layout: {flaw}"),
    }
    if outline.is_ok() {
        Trusting { file: &file, at: 0 }.load();
    }
}

fn changed(mut rest: &[u8]) -> Vec<u8> {
    static MODEL: OnceLock<TinyModel> = OnceLock::new();
    let model = MODEL.get_or_init(TinyModel::new);
    let mut file = model.bytes.clone();
    while let [kind, a, b, c, tail @ ..] = rest {
        rest = tail;
        let place = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        match kind % 4 {
            0 => file.truncate(place),
            // A number that says how the file is to be read becomes another.
            1 => {
                let at = model.numbers[place % model.numbers.len()];
                let Some((number, tail)) = rest.split_first_chunk::<4>() else { break };
                rest = tail;
                if let Some(there) = file.get_mut(at..at + 4) {
                    there.copy_from_slice(number);
                }
            }
            2 => {
                let Some((&byte, tail)) = rest.split_first() else { break };
                rest = tail;
                if let Some(there) = file.get_mut(place) {
                    *there = byte;
                }
            }
            // A piece from elsewhere comes behind: a tensor twice, for one.
            _ => {
                let end = (place + 400).min(file.len());
                let piece = file.get(place..end).unwrap_or_default().to_vec();
                file.extend(piece);
            }
        }
    }
    file
}

/// Reads as `whisper_model_load` of whisper.cpp 1.8.3 does, which checks little of it. Where that would read or write where
/// nothing is, this panics.
struct Trusting<'a> {
    file: &'a [u8],
    at: usize,
}

impl Trusting<'_> {
    fn load(mut self) {
        self.number();
        let header: Vec<i32> = (0..11).map(|_| self.number()).collect();
        let (encoder_layers, decoder_layers) = (header[4] as usize, header[8] as usize);
        let (filters, bins) = (self.number(), self.number());
        self.take(usize::try_from(filters.checked_mul(bins).unwrap()).unwrap() * 4);
        let mut has_blank = false;
        for _ in 0..self.number() {
            let length = self.number();
            has_blank |= self.take(usize::try_from(length).unwrap()) == b" ";
        }
        assert!(has_blank, "it is looked up and has to be found");
        let mut names = HashSet::new();
        while self.at < self.file.len() {
            let (dimensions, length, kind) = (self.number(), self.number(), self.number());
            // An array of four on its stack.
            assert!((0..=4).contains(&dimensions));
            let shape: Vec<i32> = (0..dimensions).map(|_| self.number()).collect();
            let numbers = shape.iter().try_fold(1_i32, |product, &n| product.checked_mul(n)).unwrap();
            assert!(shape.iter().all(|&n| n > 0));
            names.insert(self.take(usize::try_from(length).unwrap()).to_vec());
            let (in_block, bytes) = block(kind);
            assert_eq!(shape[0] as usize % in_block, 0, "a row is whole blocks");
            self.take(numbers as usize / in_block * bytes);
        }
        assert_eq!(names.len(), 11 + 15 * encoder_layers + 24 * decoder_layers);
    }

    fn number(&mut self) -> i32 {
        i32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn take(&mut self, bytes: usize) -> &[u8] {
        let taken = &self.file[self.at..self.at + bytes];
        self.at += bytes;
        taken
    }
}

/// Of ggml's table of types: numbers and bytes of a block.
fn block(kind: i32) -> (usize, usize) {
    match kind {
        0 => (1, 4),
        1 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        other => panic!("no type {other}"),
    }
}
