//! The smallest file that is a Whisper model: written by the format's description in whisper.cpp's
//! models/convert-pt-to-ggml.py, not by what reads it here.

#![allow(dead_code)] // who includes it uses a part

use std::ops::Range;

const ENGLISH: i32 = 51_864;
const MULTILINGUAL: i32 = 51_865;
/// Tokens that are written out; the others whisper.cpp makes up.
const TOKENS: i32 = 50_257;
/// The space, where GPT-2's vocabulary has it.
const BLANK: i32 = 220;
const WIDTH: i32 = 64;
const MELS: i32 = 80;
const BINS: i32 = 201;
/// Where the filters lie: behind the magic, eleven numbers of the header and their own two.
const FILTERS: usize = 4 + 13 * 4;
const F32: i32 = 0;
const F16: i32 = 1;
const Q4_0: i32 = 2;

/// A model of one layer either way, 64 wide, English only, Q4_0, all weights zero: 3 MB.
pub struct TinyModel {
    pub bytes: Vec<u8>,
    /// Where a number lies that says how much follows or how it is to be read: header, lengths, tensor headers.
    pub numbers: Vec<usize>,
    /// Where the token for a space lies.
    pub blank: usize,
    /// Name, and where its data are.
    pub tensors: Vec<(String, Range<usize>)>,
}

impl TinyModel {
    pub fn new() -> Self {
        Self::of(ENGLISH, |token| token.to_be_bytes()[1..].to_vec())
    }

    /// One of many languages whose weights are any numbers, with what looks at the audio above all else: it hears words in everything,
    /// and other words, and languages, in other audio.
    pub fn babbling() -> Self {
        let mut model = Self::of(MULTILINGUAL, |token| format!(" w{token}").into_bytes());
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        // Filters that share out the spectrum evenly: those of a real model are its ears as well.
        for bin in 0..BINS as usize {
            let at = FILTERS + 4 * ((bin * MELS as usize / BINS as usize) * BINS as usize + bin);
            model.bytes[at..at + 4].copy_from_slice(&0.02_f32.to_le_bytes());
        }
        for (name, place) in model.tensors.clone() {
            let data = &mut model.bytes[place];
            if name.ends_with("embedding") {
                data.chunks_exact_mut(4)
                    .for_each(|n| n.copy_from_slice(&((next() - 0.5) * 0.04).to_le_bytes()));
            } else if name.contains("ln") && name.ends_with("weight") {
                data.chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&1_f32.to_le_bytes()));
            } else if name.contains("conv") && name.ends_with("weight") {
                // Plus or minus 1/4 to 1/2: the exponent of a half is biased by 15.
                data.chunks_exact_mut(2).for_each(|half| {
                    let random = (next() * 65_536.0) as u16;
                    half.copy_from_slice(&(random & 0x8000 | 13 << 10 | random & 0x03ff).to_le_bytes());
                });
            } else if name.ends_with("weight") {
                // Scales of 1/2, 1/8 and 1/32, for weights of up to eight times that.
                let exponent: u16 = match &name {
                    name if name.contains("cross_attn") => 14,
                    name if name.contains("embedding") || name.starts_with("encoder") => 12,
                    _ => 10,
                };
                data.chunks_exact_mut(18).for_each(|block| {
                    block[..2].copy_from_slice(&(exponent << 10).to_le_bytes());
                    block[2..].iter_mut().for_each(|two| *two = (next() * 256.0) as u8);
                });
            }
        }
        model
    }

    fn of(vocabulary: i32, text_of: impl Fn(i32) -> Vec<u8>) -> Self {
        let mut model = Self { bytes: b"lmgg".to_vec(), numbers: Vec::new(), blank: 0, tensors: Vec::new() };
        for number in [vocabulary, 1_500, WIDTH, 1, 1, 448, WIDTH, 1, 1, MELS, 2_000 + Q4_0, MELS, BINS] {
            model.number(number);
        }
        model.bytes.resize(model.bytes.len() + (MELS * BINS * 4) as usize, 0);
        model.number(TOKENS);
        for token in 0..TOKENS {
            let text = if token == BLANK { b" ".to_vec() } else { text_of(token) };
            // The length of each is a place of its own, and a thousand of them will do.
            match token % 50 {
                0 => model.number(text.len() as i32),
                _ => model.bytes.extend((text.len() as i32).to_le_bytes()),
            }
            if token == BLANK {
                model.blank = model.bytes.len();
            }
            model.bytes.extend(text);
        }
        let (w, v) = (WIDTH, vocabulary);
        model.tensor("encoder.positional_embedding", &[w, 1_500], F32);
        model.tensor("encoder.conv1.weight", &[3, MELS, w], F16);
        model.tensor("encoder.conv1.bias", &[1, w], F32);
        model.tensor("encoder.conv2.weight", &[3, w, w], F16);
        model.tensor("encoder.conv2.bias", &[1, w], F32);
        model.block("encoder.blocks.0", &["attn"]);
        model.norm("encoder.ln_post");
        model.tensor("decoder.positional_embedding", &[w, 448], F32);
        model.tensor("decoder.token_embedding.weight", &[w, v], Q4_0);
        model.block("decoder.blocks.0", &["attn", "cross_attn"]);
        model.norm("decoder.ln");
        model
    }

    fn block(&mut self, block: &str, attentions: &[&str]) {
        for attention in attentions {
            for part in ["query", "key", "value", "out"] {
                self.tensor(&format!("{block}.{attention}.{part}.weight"), &[WIDTH, WIDTH], Q4_0);
                if part != "key" {
                    self.tensor(&format!("{block}.{attention}.{part}.bias"), &[WIDTH], F32);
                }
            }
            self.norm(&format!("{block}.{attention}_ln"));
        }
        self.tensor(&format!("{block}.mlp.0.weight"), &[WIDTH, 4 * WIDTH], Q4_0);
        self.tensor(&format!("{block}.mlp.0.bias"), &[4 * WIDTH], F32);
        self.tensor(&format!("{block}.mlp.2.weight"), &[4 * WIDTH, WIDTH], Q4_0);
        self.tensor(&format!("{block}.mlp.2.bias"), &[WIDTH], F32);
        self.norm(&format!("{block}.mlp_ln"));
    }

    fn norm(&mut self, name: &str) {
        self.tensor(&format!("{name}.weight"), &[WIDTH], F32);
        self.tensor(&format!("{name}.bias"), &[WIDTH], F32);
    }

    fn tensor(&mut self, name: &str, shape: &[i32], kind: i32) {
        for number in [shape.len() as i32, name.len() as i32, kind].into_iter().chain(shape.iter().copied()) {
            self.number(number);
        }
        self.bytes.extend(name.as_bytes());
        let numbers: usize = shape.iter().map(|&n| n as usize).product();
        let length = match kind {
            F32 => numbers * 4,
            F16 => numbers * 2,
            _ => numbers / 32 * 18,
        };
        let begin = self.bytes.len();
        self.bytes.resize(begin + length, 0);
        self.tensors.push((name.to_owned(), begin..begin + length));
    }

    fn number(&mut self, number: i32) {
        self.numbers.push(self.bytes.len());
        self.bytes.extend(number.to_le_bytes());
    }
}
