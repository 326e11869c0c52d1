//! Reads through a Whisper model file before whisper.cpp does.
//!
//! whisper.cpp trusts its input: a name of negative length, a tensor of more dimensions than it has room for, a row that is no
//! multiple of its quantisation's block or a tensor cut short ends the process or leaves weights that nobody wrote. Here
//! the whole layout is checked against what its header promises, and every number among the weights that can be none, so
//! that any file either loads or is refused with a reason.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

/// How ggml stores the big tensors of a model, by its name for it.
#[allow(missing_docs, reason = "the names say it")]
#[allow(non_camel_case_types, reason = "ggml's own names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Weights {
    /// By the header's `ftype`.
    fn of_ftype(ftype: i32) -> Option<Self> {
        Some(match ftype {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            7 => Self::Q8_0,
            8 => Self::Q5_0,
            9 => Self::Q5_1,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            _ => return None,
        })
    }

    /// Of ggml-common.h: where a block's half-precision scales are, bytes from its start.
    const fn storage(self) -> Storage {
        let (kind, numbers, bytes, halves): (_, _, _, &[usize]) = match self {
            Self::F32 => (0, 1, 4, &[]),
            Self::F16 => (1, 1, 2, &[0]),
            Self::Q4_0 => (2, 32, 18, &[0]),
            Self::Q4_1 => (3, 32, 20, &[0, 2]),
            Self::Q5_0 => (6, 32, 22, &[0]),
            Self::Q5_1 => (7, 32, 24, &[0, 2]),
            Self::Q8_0 => (8, 32, 34, &[0]),
            Self::Q2_K => (10, 256, 84, &[80, 82]),
            Self::Q3_K => (11, 256, 110, &[108]),
            Self::Q4_K => (12, 256, 144, &[0, 2]),
            Self::Q5_K => (13, 256, 176, &[0, 2]),
            Self::Q6_K => (14, 256, 210, &[208]),
        };
        Storage { kind, numbers, bytes, halves }
    }

    /// Bits that a weight takes, scales included, times 256.
    pub const fn fineness(self) -> u64 {
        let Storage { numbers, bytes, .. } = self.storage();
        bytes * 8 * 256 / numbers
    }
}

/// A block of numbers as it lies in the file.
#[derive(Clone, Copy)]
struct Storage {
    /// ggml's number of the type.
    kind: i32,
    numbers: u64,
    bytes: u64,
    halves: &'static [usize],
}

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
    /// How its big tensors are stored.
    pub weights: Weights,
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
    /// Its vocabulary is none of Whisper's.
    #[error("its vocabulary lacks the token for a space, which no Whisper model does")]
    Blank,
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
    /// Weights that are no numbers: nothing that can be understood would come of them.
    #[error("{part} holds what is no number, or is infinite")]
    NotANumber {
        /// Where.
        part: String,
    },
    /// It could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

const MAGIC: u32 = 0x6767_6d6c;
const POSITIONS: i32 = 1_500;
const TEXT_POSITIONS: i32 = 448;
const FFT_BINS: i32 = 201;
/// Magic and eleven numbers, two of the filters.
const HEADER_BYTES: u64 = 12 * 4 + 2 * 4;
const LONGEST_TOKEN: i32 = 1_024;
const LONGEST_NAME: i32 = 256;
/// whisper.cpp looks this token up before it decodes, and ends the process where there is none.
const BLANK: &str = " ";
/// Every Whisper has as many numbers a head; the widest, `large`, has 20 of them and 32 layers of either kind.
const HEAD: i32 = 64;
const WIDEST: i32 = 20 * HEAD;
const MOST_LAYERS: i32 = 32;
/// Weights are looked through in pieces of about so many bytes, whole blocks.
const PIECE: u64 = 64 << 10;

struct Tensor {
    shape: [i32; 3],
    weights: Weights,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        let numbers: u64 = self.shape.iter().map(|&n| n as u64).product();
        let storage = self.weights.storage();
        numbers / storage.numbers * storage.bytes
    }
}

/// Check the layout of `file`: header, vocabulary and every tensor's name, shape, type and presence. Reads of it what
/// stands between the weights, and so takes no longer for a large model than for a small one.
///
/// # Errors
/// The first [`Flaw`] found.
pub fn layout(file: &mut (impl Read + Seek)) -> Result<Shape, Flaw> {
    look(file, false)
}

/// The same, and that all weights are numbers: reads all of it.
///
/// # Errors
/// The first [`Flaw`] found.
pub fn check(file: &mut (impl Read + Seek)) -> Result<Shape, Flaw> {
    look(file, true)
}

/// The mel filters of a file that passed [`check`], read from its start: band by band the weights of 201 bins.
///
/// # Errors
/// If it cannot be read.
pub fn mel_filters(file: &mut impl Read) -> io::Result<Box<[f32]>> {
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header)?;
    let bands = u64::from(u32::from_le_bytes([header[48], header[49], header[50], header[51]]));
    let mut bytes = Vec::new();
    file.take(bands * FFT_BINS as u64 * 4).read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

fn look(file: &mut (impl Read + Seek), weights: bool) -> Result<Shape, Flaw> {
    let have = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut file = Cursor { file, at: 0, have, weights };
    if file.i32("the header")? as u32 != MAGIC {
        return Err(Flaw::Magic);
    }
    let shape = header(&mut file)?;
    vocabulary(&mut file, shape.vocabulary)?;
    tensors(&mut file, expected_tensors(&shape))?;
    Ok(shape)
}

fn header<F: Read + Seek>(file: &mut Cursor<'_, F>) -> Result<Shape, Flaw> {
    let mut number = |field: &'static str, fits: &dyn Fn(i32) -> bool| {
        let value = file.i32("the header")?;
        if fits(value) { Ok(value) } else { Err(Flaw::Header { field, value: value.into() }) }
    };
    let vocabulary = number("vocabulary", &|v| (51_864..=51_866).contains(&v))?;
    number("number of audio positions", &|v| v == POSITIONS)?;
    let width = number("encoder width", &|v| (HEAD..=WIDEST).contains(&v) && v % HEAD == 0)?;
    number("number of encoder heads", &|v| v == width / HEAD)?;
    let encoder_layers = number("number of encoder layers", &|v| (1..=MOST_LAYERS).contains(&v))?;
    number("number of text positions", &|v| v == TEXT_POSITIONS)?;
    number("decoder width", &|v| v == width)?;
    number("number of decoder heads", &|v| v == width / HEAD)?;
    let decoder_layers = number("number of decoder layers", &|v| (1..=MOST_LAYERS).contains(&v))?;
    let mels = number("number of mel bands", &|v| v == 80 || v == 128)?;
    // Thousands count the versions of the quantisation formats.
    let weights_of = |v: i32| {
        Weights::of_ftype(v % 1_000)
            .filter(|w| (width as u64).is_multiple_of(w.storage().numbers) && (0..=2).contains(&(v / 1_000)))
    };
    let ftype = number("number format", &|v| weights_of(v).is_some())?;
    number("number of mel filters", &|v| v == mels)?;
    number("length of a mel filter", &|v| v == FFT_BINS)?;
    file.numbers((mels * FFT_BINS * 4) as u64, Weights::F32, || "a mel filter".into())?;
    Ok(Shape {
        vocabulary: vocabulary as u32,
        width: width as u32,
        encoder_layers: encoder_layers as u32,
        decoder_layers: decoder_layers as u32,
        mels: mels as u32,
        weights: weights_of(ftype).ok_or(Flaw::Header { field: "number format", value: ftype.into() })?,
    })
}

fn vocabulary<F: Read + Seek>(file: &mut Cursor<'_, F>, most: u32) -> Result<(), Flaw> {
    let tokens = file.i32("the vocabulary")?;
    // All text tokens have to be there; whisper.cpp makes up the special ones behind them.
    if tokens < 50_256 || tokens as u32 > most {
        return Err(Flaw::Header { field: "number of tokens", value: tokens.into() });
    }
    let mut has_blank = false;
    for token in 0..tokens {
        let length = file.i32("the vocabulary")?;
        if !(0..=LONGEST_TOKEN).contains(&length) {
            return Err(Flaw::Header { field: "length of a token", value: length.into() });
        }
        match length as usize {
            length if length == BLANK.len() => has_blank |= file.text(length, "the vocabulary")? == BLANK,
            length => file.skip(length as u64, || format!("token {token}"))?,
        }
    }
    if has_blank { Ok(()) } else { Err(Flaw::Blank) }
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
        let fits = |t: &Tensor| t.shape == shape && t.weights.storage().kind == kind;
        let Some(tensor) = expected.remove(&name).filter(fits) else {
            return Err(Flaw::Tensor { name });
        };
        file.numbers(tensor.bytes(), tensor.weights, || format!("tensor {name:?}"))?;
    }
    match expected.keys().next() {
        None => Ok(()),
        // Whole tensors gone from the end is how most cut-off downloads look.
        Some(first) => Err(Flaw::Missing { count: expected.len(), first: first.clone() }),
    }
}

/// Bytes of a file of this shape whose vocabulary takes `vocabulary` bytes, the lengths before its tokens included.
pub fn file_length(shape: &Shape, vocabulary: u64) -> u64 {
    // The filters, and the count of tokens, follow.
    let header = HEADER_BYTES + u64::from(shape.mels) * FFT_BINS as u64 * 4 + 4;
    let tensors = expected_tensors(shape);
    let length = |(name, tensor): (&String, &Tensor)| {
        // Converters write a bias of the convolutions with two dimensions, one of them 1, and all else without.
        let dimensions = match tensor.shape {
            [1, _, 1] => 2,
            shape => shape.iter().rposition(|&n| n != 1).unwrap_or(0) + 1,
        };
        (3 + dimensions as u64) * 4 + name.len() as u64 + tensor.bytes()
    };
    header + vocabulary + tensors.iter().map(length).sum::<u64>()
}

fn expected_tensors(shape: &Shape) -> BTreeMap<String, Tensor> {
    const F32: Weights = Weights::F32;
    let (width, wide) = (shape.width as i32, shape.weights);
    let conv = if wide == F32 { F32 } else { Weights::F16 };
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: [i32; 3], weights: Weights| {
        all.insert(name, Tensor { shape, weights });
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
    /// Whether weights are looked at.
    weights: bool,
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

    /// Pass over `bytes` of stored numbers; where they are looked at, each has to be finite.
    fn numbers(&mut self, bytes: u64, weights: Weights, part: impl Fn() -> String) -> Result<(), Flaw> {
        if !self.weights {
            return self.skip(bytes, part);
        }
        self.take(bytes, &part)?;
        let storage = weights.storage();
        let mut piece = vec![0; (PIECE / storage.bytes * storage.bytes).min(bytes) as usize];
        let mut left = bytes;
        while left > 0 {
            let length = left.min(piece.len() as u64);
            let piece = &mut piece[..length as usize];
            self.file.read_exact(piece)?;
            if !all_finite(piece, weights) {
                return Err(Flaw::NotANumber { part: part() });
            }
            left -= length;
        }
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

/// All bits of the exponent set: infinite, or not a number (IEEE 754, 3.4).
const HALF_EXPONENT: u16 = 0x7c00;
const SINGLE_EXPONENT: u32 = 0x7f80_0000;

fn all_finite(blocks: &[u8], weights: Weights) -> bool {
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]) & HALF_EXPONENT != HALF_EXPONENT;
    // Folded without a way out, so that the compiler can take many at a time.
    match weights {
        Weights::F32 => blocks.as_chunks::<4>().0.iter().fold(true, |good, bytes| {
            good & (u32::from_le_bytes(*bytes) & SINGLE_EXPONENT != SINGLE_EXPONENT)
        }),
        Weights::F16 => blocks.as_chunks::<2>().0.iter().fold(true, |good, bytes| good & half(bytes)),
        _ => {
            let Storage { bytes, halves, .. } = weights.storage();
            blocks.chunks_exact(bytes as usize).all(|block| halves.iter().all(|&at| half(&block[at..])))
        }
    }
}
