//! whisper.cpp's models: what each is good for, how long its file is, and its checksum.
//!
//! Lengths and SHA-256 are those of the repository `ggerganov/whisper.cpp` on Hugging Face at revision
//! `5359861c739e955e79d9a303bcbc70fb988958b1` (Git LFS pointers); a test holds the lengths against the models' shapes.

use strsim::jaro_winkler;

use super::super::ggml::{Shape, Weights};
use Languages::{English, Many};
use Size::{Base, LargeV1, LargeV2, LargeV3, Medium, Small, Tiny, Turbo};
use Weights::{F16, Q5_0, Q5_1, Q8_0};

/// OpenAI's models by their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 39 million parameters.
    Tiny,
    /// 74 million.
    Base,
    /// 244 million.
    Small,
    /// 769 million.
    Medium,
    /// 1,550 million.
    LargeV1,
    /// 1,550 million.
    LargeV2,
    /// 1,550 million.
    LargeV3,
    /// 809 million: `large-v3` with a decoder of 4 layers instead of 32.
    Turbo,
}

impl Size {
    /// Width, layers of encoder and decoder, mel bands.
    const fn dimensions(self) -> (u32, u32, u32, u32) {
        match self {
            Tiny => (384, 4, 4, 80),
            Base => (512, 6, 6, 80),
            Small => (768, 12, 12, 80),
            Medium => (1_024, 24, 24, 80),
            LargeV1 | LargeV2 => (1_280, 32, 32, 80),
            LargeV3 => (1_280, 32, 32, 128),
            Turbo => (1_280, 32, 4, 128),
        }
    }

    /// Speed relative to `large` on English, on a GPU (A100), as OpenAI gives it (README of openai/whisper).
    pub const fn relative_speed(self) -> u32 {
        match self {
            Tiny => 10,
            Base => 7,
            Small => 4,
            Medium => 2,
            LargeV1 | LargeV2 | LargeV3 => 1,
            Turbo => 8,
        }
    }

    /// Words wrong in LibriSpeech test-clean (read English, not telephone), per cent: the multilingual model of this size, not
    /// quantised, with whisper.cpp (ggml-org/whisper.cpp#2454).
    pub const fn word_errors(self) -> f64 {
        match self {
            Tiny => 6.90,
            Base => 4.81,
            Small => 3.37,
            Medium => 2.70,
            LargeV1 | LargeV3 => 2.67,
            LargeV2 => 2.58,
            Turbo => 1.92,
        }
    }
}

/// What a model understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Languages {
    /// English and nothing else.
    English,
    /// 99 languages, or 100 from `large-v3` on.
    Many,
}

/// A model that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `base.en-q5_1`: its file is `ggml-base.en-q5_1.bin`.
    pub name: &'static str,
    /// Which of OpenAI's models it is.
    pub size: Size,
    /// What it understands.
    pub languages: Languages,
    /// How it is stored: `F16` is as published by OpenAI, the others are quantised.
    pub weights: Weights,
    /// Length of its file.
    pub bytes: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: &'static str,
}

impl Entry {
    /// What the header of its file says.
    pub const fn shape(&self) -> Shape {
        let (width, encoder_layers, decoder_layers, mels) = self.size.dimensions();
        let vocabulary = match (self.languages, self.size) {
            (English, _) => 51_864,
            (Many, LargeV3 | Turbo) => 51_866,
            (Many, _) => 51_865,
        };
        Shape { vocabulary, width, encoder_layers, decoder_layers, mels, weights: self.weights }
    }
}

/// The entry of the model `name`.
pub fn entry_of(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

/// The name in the catalogue that `name` was probably meant to be.
pub fn nearest(name: &str) -> Option<&'static str> {
    let likeness = |entry: &Entry| jaro_winkler(entry.name, name);
    let best = CATALOGUE.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best.name)
}

const fn entry(
    name: &'static str,
    size: Size,
    languages: Languages,
    weights: Weights,
    bytes: u64,
    sha256: &'static str,
) -> Entry {
    Entry { name, size, languages, weights, bytes, sha256 }
}

/// All of them, smallest first.
#[rustfmt::skip]
pub const CATALOGUE: [Entry; 33] = [
    entry("tiny", Tiny, Many, F16, 77_691_713, "be07e048e1e599ad46341c8d2a135645097a538221678b7acdd1b1919c6e1b21"),
    entry("tiny-q5_1", Tiny, Many, Q5_1, 32_152_673, "818710568da3ca15689e31a743197b520007872ff9576237bda97bd1b469c3d7"),
    entry("tiny-q8_0", Tiny, Many, Q8_0, 43_537_433, "c2085835d3f50733e2ff6e4b41ae8a2b8d8110461e18821b09a15c40c42d1cca"),
    entry("tiny.en", Tiny, English, F16, 77_704_715, "921e4cf8686fdd993dcd081a5da5b6c365bfde1162e72b08d75ac75289920b1f"),
    entry("tiny.en-q5_1", Tiny, English, Q5_1, 32_166_155, "c77c5766f1cef09b6b7d47f21b546cbddd4157886b3b5d6d4f709e91e66c7c2b"),
    entry("tiny.en-q8_0", Tiny, English, Q8_0, 43_550_795, "5bc2b3860aa151a4c6e7bb095e1fcce7cf12c7b020ca08dcec0c6d018bb7dd94"),
    entry("base", Base, Many, F16, 147_951_465, "60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe"),
    entry("base-q5_1", Base, Many, Q5_1, 59_707_625, "422f1ae452ade6f30a004d7e5c6a43195e4433bc370bf23fac9cc591f01a8898"),
    entry("base-q8_0", Base, Many, Q8_0, 81_768_585, "c577b9a86e7e048a0b7eada054f4dd79a56bbfa911fbdacf900ac5b567cbb7d9"),
    entry("base.en", Base, English, F16, 147_964_211, "a03779c86df3323075f5e796cb2ce5029f00ec8869eee3fdfb897afe36c6d002"),
    entry("base.en-q5_1", Base, English, Q5_1, 59_721_011, "4baf70dd0d7c4247ba2b81fafd9c01005ac77c2f9ef064e00dcf195d0e2fdd2f"),
    entry("base.en-q8_0", Base, English, Q8_0, 81_781_811, "a4d4a0768075e13cfd7e19df3ae2dbc4a68d37d36a7dad45e8410c9a34f8c87e"),
    entry("small", Small, Many, F16, 487_601_967, "1be3a9b2063867b937e64e2ec7483364a79917e157fa98c5d94b5c1fffea987b"),
    entry("small-q5_1", Small, Many, Q5_1, 190_085_487, "ae85e4a935d7a567bd102fe55afc16bb595bdb618e11b2fc7591bc08120411bb"),
    entry("small-q8_0", Small, Many, Q8_0, 264_464_607, "49c8fb02b65e6049d5fa6c04f81f53b867b5ec9540406812c643f177317f779f"),
    entry("small.en", Small, English, F16, 487_614_201, "c6138d6d58ecc8322097e0f987c32f1be8bb0a18532a3f88f734d1bbf9c41e5d"),
    entry("small.en-q5_1", Small, English, Q5_1, 190_098_681, "bfdff4894dcb76bbf647d56263ea2a96645423f1669176f4844a1bf8e478ad30"),
    entry("small.en-q8_0", Small, English, Q8_0, 264_477_561, "67a179f608ea6114bd3fdb9060e762b588a3fb3bd00c4387971be4d177958067"),
    entry("medium", Medium, Many, F16, 1_533_763_059, "6c14d5adee5f86394037b4e4e8b59f1673b6cee10e3cf0b11bbdbee79c156208"),
    entry("medium-q5_0", Medium, Many, Q5_0, 539_212_467, "19fea4b380c3a618ec4723c3eef2eb785ffba0d0538cf43f8f235e7b3b34220f"),
    entry("medium-q8_0", Medium, Many, Q8_0, 823_369_779, "42a1ffcbe4167d224232443396968db4d02d4e8e87e213d3ee2e03095dea6502"),
    entry("medium.en", Medium, English, F16, 1_533_774_781, "cc37e93478338ec7700281a7ac30a10128929eb8f427dda2e865faa8f6da4356"),
    entry("medium.en-q5_0", Medium, English, Q5_0, 539_225_533, "76733e26ad8fe1c7a5bf7531a9d41917b2adc0f20f2e4f5531688a8c6cd88eb0"),
    entry("medium.en-q8_0", Medium, English, Q8_0, 823_382_461, "43fa2cd084de5a04399a896a9a7a786064e221365c01700cea4666005218f11c"),
    entry("large-v1", LargeV1, Many, F16, 3_094_623_691, "7d99f41a10525d0206bddadd86760181fa920438b6b33237e3118ff6c83bb53d"),
    entry("large-v2", LargeV2, Many, F16, 3_094_623_691, "9a423fe4d40c82774b6af34115b8b935f34152246eb19e80e376071d3f999487"),
    entry("large-v2-q5_0", LargeV2, Many, Q5_0, 1_080_732_091, "3a214837221e4530dbc1fe8d734f302af393eb30bd0ed046042ebf4baf70f6f2"),
    entry("large-v2-q8_0", LargeV2, Many, Q8_0, 1_656_129_691, "fef54e6d898246a65c8285bfa83bd1807e27fadf54d5d4e81754c47634737e8c"),
    entry("large-v3", LargeV3, Many, F16, 3_095_033_483, "64d182b440b98d5203c4f9bd541544d84c605196c4f7b845dfa11fb23594d1e2"),
    entry("large-v3-q5_0", LargeV3, Many, Q5_0, 1_081_140_203, "d75795ecff3f83b5faa89d1900604ad8c780abd5739fae406de19f23ecd98ad1"),
    entry("large-v3-turbo", Turbo, Many, F16, 1_624_555_275, "1fc70f774d38eb169993ac391eea357ef47c88757ef72ee5943879b7e8e2bc69"),
    entry("large-v3-turbo-q5_0", Turbo, Many, Q5_0, 574_041_195, "394221709cd5ad1f40c46e6031ca61bce88931e6e088c188294c6d5a55ffa7e2"),
    entry("large-v3-turbo-q8_0", Turbo, Many, Q8_0, 874_188_075, "317eb69c11673c9de1e1f0d459b253999804ec71ac4c23c17ecf5fbe24e259a1"),
];

#[cfg(test)]
mod tests {
    use super::super::super::ggml::file_length;
    use super::*;

    /// What is left of a file when its tensors and the rest that the shape determines are taken off: the vocabulary, which is the
    /// same in all English-only models, and in all others but for the language added in `large-v3`, which is not written out.
    #[test]
    fn each_length_is_what_its_shape_makes() {
        let vocabulary = |entry: &Entry| entry.bytes - file_length(&entry.shape(), 0);
        for entry in &CATALOGUE {
            let like = if entry.languages == English { "tiny.en" } else { "tiny" };
            assert_eq!(vocabulary(entry), vocabulary(entry_of(like).unwrap()), "{}", entry.name);
        }
    }

    #[test]
    fn names_and_checksums_are_in_form_and_occur_once() {
        let mut seen = std::collections::HashSet::new();
        for entry in &CATALOGUE {
            let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(entry.sha256.len() == 64 && entry.sha256.chars().all(hexadecimal), "{}", entry.name);
            assert!(seen.insert(entry.name) && seen.insert(entry.sha256), "{}", entry.name);
            let quantised = match entry.weights {
                Q5_0 => entry.name.ends_with("-q5_0"),
                Q5_1 => entry.name.ends_with("-q5_1"),
                Q8_0 => entry.name.ends_with("-q8_0"),
                _ => !entry.name.contains("-q"),
            };
            assert!(quantised, "{}", entry.name);
            assert_eq!(entry.name.contains(".en"), entry.languages == English, "{}", entry.name);
        }
    }

    #[test]
    fn a_name_misspelt_leads_to_the_right_one() {
        assert_eq!(nearest("base-en"), Some("base.en"));
        assert_eq!(nearest("large-v3-turbo-q5"), Some("large-v3-turbo-q5_0"));
        assert_eq!(nearest("parakeet"), None);
    }
}
