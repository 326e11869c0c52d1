//! Reads through a Whisper model file before whisper.cpp does.
//!
//! whisper.cpp trusts its input: a name of negative length, a row that is no multiple of its quantisation's block or a
//! tensor cut short ends the process or leaves weights that nobody wrote. Here the whole layout is checked against what
//! its header promises, so that any file either loads or is refused with a reason.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

/// What a model file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size of the vocabulary: 51864 is English-only.
    pub vocabulary: u32,
    /// Width of the encoder and decoder.
    pub width: u32,
    /// Layers of the encoder.
    pub encoder_layers: u32,
    /// Layers of the decoder.
    pub decoder_layers: u32,
    /// Mel bands.
    pub mels: u32,
}

impl Shape {
    /// Whether it knows no language but English: whisper.cpp tells by the vocabulary.
    pub fn is_english_only(&self) -> bool {
        self.vocabulary < 51_865
    }
}

/// What is wrong with a model file.
#[derive(Debug, Error)]
pub enum Flaw {
    /// It does not begin as one.
    #[error("it is not a ggml Whisper model (no `ggml` magic at its start)")]
    Magic,
    /// It ends too early.
    #[error("it ends after {have} bytes, in the middle of {part}: the download or copy is not complete")]
    Truncated {
        /// Its length.
        have: u64,
        /// What it ends in.
        part: String,
    },
    /// A number in its header is none that a Whisper model has.
    #[error("its {field} is {value}, which no supported Whisper model has")]
    Header {
        /// The number's name.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A tensor is not one that this shape of model has, or occurs twice.
    #[error("tensor {name:?} does not belong into a model of its shape")]
    Tensor {
        /// The tensor, as far as it can be told.
        name: String,
    },
    /// Tensors are missing.
    #[error("it lacks {count} tensors, {first:?} for one")]
    Missing {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

const MAGIC: u32 = 0x6767_6d6c;
const POSITIONS: i32 = 1_500;
const TEXT_POSITIONS: i32 = 448;
const FFT_BINS: i32 = 201;
const LONGEST_TOKEN: i32 = 1_024;
const LONGEST_NAME: i32 = 256;

/// How ggml stores numbers: type id, numbers in a block, bytes of a block.
#[derive(Clone, Copy)]
struct Storage(i32, u64, u64);

const F32: Storage = Storage(0, 1, 4);
const F16: Storage = Storage(1, 1, 2);

/// By `ftype`, the storage of the big tensors.
fn storage(ftype: i32) -> Option<Storage> {
    Some(match ftype {
        0 => F32,
        1 => F16,
        2 => Storage(2, 32, 18),
        3 => Storage(3, 32, 20),
        7 => Storage(8, 32, 34),
        8 => Storage(6, 32, 22),
        9 => Storage(7, 32, 24),
        10 => Storage(10, 256, 84),
        11 => Storage(11, 256, 110),
        12 => Storage(12, 256, 144),
        13 => Storage(13, 256, 176),
        14 => Storage(14, 256, 210),
        _ => return None,
    })
}

struct Tensor {
    shape: [i32; 3],
    storage: Storage,
}

/// Check all of `file`: header, vocabulary and every tensor's name, shape, type and presence.
///
/// # Errors
/// The first [`Flaw`] found.
pub fn check(file: &mut (impl Read + Seek)) -> Result<Shape, Flaw> {
    let have = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut file = Cursor { file, at: 0, have };
    if file.i32("the header")? as u32 != MAGIC {
        return Err(Flaw::Magic);
    }
    let (shape, wide) = header(&mut file)?;
    vocabulary(&mut file, shape.vocabulary)?;
    tensors(&mut file, expected_tensors(&shape, wide))?;
    Ok(shape)
}

fn header<F: Read + Seek>(file: &mut Cursor<'_, F>) -> Result<(Shape, Storage), Flaw> {
    let mut number = |field: &'static str, fits: &dyn Fn(i32) -> bool| {
        let value = file.i32("the header")?;
        if fits(value) { Ok(value) } else { Err(Flaw::Header { field, value: value.into() }) }
    };
    let vocabulary = number("vocabulary", &|v| (51_864..=51_866).contains(&v))?;
    number("number of audio positions", &|v| v == POSITIONS)?;
    let width = number("encoder width", &|v| (64..=2_048).contains(&v) && v % 32 == 0)?;
    number("number of encoder heads", &|v| v > 0 && width % v == 0)?;
    let encoder_layers = number("number of encoder layers", &|v| (1..=64).contains(&v))?;
    number("number of text positions", &|v| v == TEXT_POSITIONS)?;
    number("decoder width", &|v| v == width)?;
    number("number of decoder heads", &|v| v > 0 && width % v == 0)?;
    let decoder_layers = number("number of decoder layers", &|v| (1..=64).contains(&v))?;
    let mels = number("number of mel bands", &|v| v == 80 || v == 128)?;
    // Thousands count the versions of the quantisation formats.
    let wide_of = |v: i32| {
        storage(v % 1_000).filter(|s| (width as u64).is_multiple_of(s.1) && (0..=2).contains(&(v / 1_000)))
    };
    let ftype = number("number format", &|v| wide_of(v).is_some())?;
    number("number of mel filters", &|v| v == mels)?;
    number("length of a mel filter", &|v| v == FFT_BINS)?;
    file.skip((mels * FFT_BINS * 4) as u64, || "the mel filters".into())?;
    let shape = Shape {
        vocabulary: vocabulary as u32,
        width: width as u32,
        encoder_layers: encoder_layers as u32,
        decoder_layers: decoder_layers as u32,
        mels: mels as u32,
    };
    let wide = wide_of(ftype).ok_or(Flaw::Header { field: "number format", value: ftype.into() })?;
    Ok((shape, wide))
}

fn vocabulary<F: Read + Seek>(file: &mut Cursor<'_, F>, most: u32) -> Result<(), Flaw> {
    let tokens = file.i32("the vocabulary")?;
    // All text tokens have to be there; whisper.cpp makes up the special ones behind them.
    if tokens < 50_256 || tokens as u32 > most {
        return Err(Flaw::Header { field: "number of tokens", value: tokens.into() });
    }
    for token in 0..tokens {
        let length = file.i32("the vocabulary")?;
        if !(0..=LONGEST_TOKEN).contains(&length) {
            return Err(Flaw::Header { field: "length of a token", value: length.into() });
        }
        file.skip(length as u64, || format!("token {token}"))?;
    }
    Ok(())
}

fn tensors<F: Read + Seek>(
    file: &mut Cursor<'_, F>,
    mut expected: BTreeMap<String, Tensor>,
) -> Result<(), Flaw> {
    while file.at < file.have {
        let dimensions = file.i32("a tensor's header")?;
        let name_length = file.i32("a tensor's header")?;
        let kind = file.i32("a tensor's header")?;
        if !(1..=3).contains(&dimensions) || !(1..=LONGEST_NAME).contains(&name_length) {
            return Err(Flaw::Tensor { name: format!("at byte {}", file.at) });
        }
        let mut shape = [1; 3];
        for size in shape.iter_mut().take(dimensions as usize) {
            *size = file.i32("a tensor's header")?;
        }
        let name = file.text(name_length as usize, "a tensor's name")?;
        let fits = |t: &Tensor| t.shape == shape && t.storage.0 == kind;
        let Some(tensor) = expected.remove(&name).filter(fits) else {
            return Err(Flaw::Tensor { name });
        };
        let numbers: u64 = shape.iter().map(|&n| n as u64).product();
        let Storage(_, block, bytes) = tensor.storage;
        file.skip(numbers / block * bytes, || format!("tensor {name:?}"))?;
    }
    match expected.keys().next() {
        None => Ok(()),
        // Whole tensors gone from the end is how most cut-off downloads look.
        Some(first) => Err(Flaw::Missing { count: expected.len(), first: first.clone() }),
    }
}

fn expected_tensors(shape: &Shape, wide: Storage) -> BTreeMap<String, Tensor> {
    let width = shape.width as i32;
    let conv = if wide.0 == F32.0 { F32 } else { F16 };
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: [i32; 3], storage: Storage| {
        all.insert(name, Tensor { shape, storage });
    };
    add("encoder.positional_embedding".into(), [width, POSITIONS, 1], F32);
    add("encoder.conv1.weight".into(), [3, shape.mels as i32, width], conv);
    add("encoder.conv1.bias".into(), [1, width, 1], F32);
    add("encoder.conv2.weight".into(), [3, width, width], conv);
    add("encoder.conv2.bias".into(), [1, width, 1], F32);
    add("decoder.positional_embedding".into(), [width, TEXT_POSITIONS, 1], F32);
    add("decoder.token_embedding.weight".into(), [width, shape.vocabulary as i32, 1], wide);
    for norm in ["encoder.ln_post", "decoder.ln"] {
        add(format!("{norm}.weight"), [width, 1, 1], F32);
        add(format!("{norm}.bias"), [width, 1, 1], F32);
    }
    let encoder = (0..shape.encoder_layers).map(|layer| (format!("encoder.blocks.{layer}"), &["attn"][..]));
    let decoder = (0..shape.decoder_layers)
        .map(|layer| (format!("decoder.blocks.{layer}"), &["attn", "cross_attn"][..]));
    for (block, attentions) in encoder.chain(decoder) {
        for norm in ["weight", "bias"] {
            add(format!("{block}.mlp_ln.{norm}"), [width, 1, 1], F32);
        }
        add(format!("{block}.mlp.0.weight"), [width, 4 * width, 1], wide);
        add(format!("{block}.mlp.0.bias"), [4 * width, 1, 1], F32);
        add(format!("{block}.mlp.2.weight"), [4 * width, width, 1], wide);
        add(format!("{block}.mlp.2.bias"), [width, 1, 1], F32);
        for attention in attentions {
            for norm in ["weight", "bias"] {
                add(format!("{block}.{attention}_ln.{norm}"), [width, 1, 1], F32);
            }
            for part in ["query", "key", "value", "out"] {
                add(format!("{block}.{attention}.{part}.weight"), [width, width, 1], wide);
                if part != "key" {
                    add(format!("{block}.{attention}.{part}.bias"), [width, 1, 1], F32);
                }
            }
        }
    }
    all
}

struct Cursor<'a, F> {
    file: &'a mut F,
    at: u64,
    have: u64,
}

impl<F: Read + Seek> Cursor<'_, F> {
    fn i32(&mut self, part: &str) -> Result<i32, Flaw> {
        let mut bytes = [0; 4];
        self.read(&mut bytes, part)?;
        Ok(i32::from_le_bytes(bytes))
    }

    fn text(&mut self, length: usize, part: &str) -> Result<String, Flaw> {
        let mut bytes = vec![0; length];
        self.read(&mut bytes, part)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn read(&mut self, into: &mut [u8], part: &str) -> Result<(), Flaw> {
        self.take(into.len() as u64, || part.to_owned())?;
        Ok(self.file.read_exact(into)?)
    }

    fn skip(&mut self, bytes: u64, part: impl FnOnce() -> String) -> Result<(), Flaw> {
        self.take(bytes, part)?;
        self.file.seek_relative(bytes as i64)?;
        Ok(())
    }

    fn take(&mut self, bytes: u64, part: impl FnOnce() -> String) -> Result<(), Flaw> {
        if bytes > self.have - self.at {
            return Err(Flaw::Truncated { have: self.have, part: part() });
        }
        self.at += bytes;
        Ok(())
    }
}
