//! Silero VAD 6.2.3 at 16 kHz (Silero Team, MIT licence): a spectrum, four convolutions, an LSTM, one number.
//!
//! The weights are its makers' (models/README.md); the layers are few enough to be written out, which spares the binary a runtime for
//! networks and a leg its overhead. Arithmetic is in `f32` in a fixed order: the same audio gets the same scores.

use std::f32::consts::TAU;
use std::sync::{Arc, LazyLock};

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples that get one score: 32 ms at 16 kHz.
pub const WINDOW: usize = 512;
/// Samples before a window that are looked at with it.
const CONTEXT: usize = 64;
/// Behind a window, so many of its samples mirrored.
const MIRRORED: usize = 64;
const INPUT: usize = CONTEXT + WINDOW + MIRRORED;
/// The spectrum: four of 16 ms, half overlapping.
const FFT: usize = 256;
const HOP: usize = 128;
const SPECTRA: usize = (INPUT - FFT) / HOP + 1;
const BINS: usize = FFT / 2 + 1;
/// Channels of the layers.
const WIDE: usize = 128;
const NARROW: usize = 64;
/// Gates of an LSTM: input, forget, cell, output.
const GATES: usize = 4 * WIDE;

const BYTES: &[u8] = include_bytes!("../../../models/silero-vad-16k.f32");
const NUMBERS: usize = WIDE * (3 * BINS + 1)
    + NARROW * (3 * WIDE + 1)
    + NARROW * (2 * NARROW + 1)
    + WIDE * (NARROW + 1)
    + GATES * (2 * WIDE + 2)
    + WIDE
    + 1;
const _: () =
    assert!(BYTES.len() == 4 * NUMBERS, "models/silero-vad-16k.f32 is not the one that this was written for");

/// Outputs computed at once: eight vectors of four, which is what processors of any age have registers for.
const LANES: usize = 32;
/// Inputs that one after the other are added up for all positions: their weights, 16 KB, stay in the nearest cache meanwhile.
const INPUTS: usize = 128;

/// Outputs that are weighted sums of inputs.
struct Layer {
    inputs: usize,
    /// [block of outputs][input][output within the block].
    weights: Box<[[f32; LANES]]>,
    bias: Box<[[f32; LANES]]>,
}

impl Layer {
    /// Of `weights`, [output][input].
    fn new(weights: &[f32], bias: &[f32]) -> Self {
        let inputs = weights.len() / bias.len();
        let row = |block: usize, input: usize| -> [f32; LANES] {
            std::array::from_fn(|output| weights[(block * LANES + output) * inputs + input])
        };
        let blocks = 0..bias.len() / LANES;
        Self {
            inputs,
            weights: blocks.flat_map(|block| (0..inputs).map(move |input| row(block, input))).collect(),
            bias: bias.as_chunks::<LANES>().0.into(),
        }
    }

    /// The outputs at `P` positions, of each what is there of its inputs; `out` takes position, number and value of an output.
    fn apply<const P: usize>(&self, inputs: [&[f32]; P], mut out: impl FnMut(usize, usize, f32)) {
        for (block, (weights, bias)) in self.weights.chunks_exact(self.inputs).zip(&self.bias).enumerate() {
            let mut sums = [*bias; P];
            for (part, weights) in weights.chunks(INPUTS).enumerate() {
                for (sums, inputs) in sums.iter_mut().zip(&inputs) {
                    add(sums, weights, &inputs[part * INPUTS..]);
                }
            }
            for (position, sums) in sums.iter().enumerate() {
                for (lane, sum) in sums.iter().enumerate() {
                    out(position, block * LANES + lane, *sum);
                }
            }
        }
    }
}

/// On its own, the compiler keeps the sums in registers.
#[inline(never)]
fn add(sums: &mut [f32; LANES], weights: &[[f32; LANES]], inputs: &[f32]) {
    let mut all = *sums;
    for (weights, input) in weights.iter().zip(inputs) {
        for (sum, weight) in all.iter_mut().zip(weights) {
            *sum += weight * input;
        }
    }
    *sums = all;
}

struct Network {
    window: [f32; FFT],
    fft: Arc<dyn RealToComplex<f32>>,
    first: Layer,
    second: Layer,
    third: Layer,
    fourth: Layer,
    lstm: Layer,
    last: [f32; WIDE],
    bias: f32,
}

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let numbers: Vec<f32> = BYTES.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut rest = &numbers[..];
    let mut take = |count: usize| {
        let (part, others) = rest.split_at(count);
        rest = others;
        part
    };
    let first = Layer::new(take(WIDE * 3 * BINS), take(WIDE));
    let second = Layer::new(take(NARROW * 3 * WIDE), take(NARROW));
    let third = Layer::new(take(NARROW * 2 * NARROW), take(NARROW));
    let fourth = Layer::new(take(WIDE * NARROW), take(WIDE));
    let (of_input, of_state) = (take(GATES * WIDE), take(GATES * WIDE));
    let joined: Vec<f32> = of_input
        .chunks_exact(WIDE)
        .zip(of_state.chunks_exact(WIDE))
        .flat_map(|(input, state)| [input, state].concat())
        .collect();
    let bias: Vec<f32> = take(GATES).iter().zip(take(GATES)).map(|(a, b)| a + b).collect();
    let lstm = Layer::new(&joined, &bias);
    let mut last = [0.0; WIDE];
    last.copy_from_slice(take(WIDE));
    Network {
        window: std::array::from_fn(|n| 0.5 - 0.5 * (TAU * n as f32 / FFT as f32).cos()),
        fft: RealFftPlanner::new().plan_fft_forward(FFT),
        first,
        second,
        third,
        fourth,
        lstm,
        last,
        bias: take(1)[0],
    }
});

/// The detector of one stream.
pub struct Silero {
    context: [f32; CONTEXT],
    hidden: [f32; WIDE],
    cell: [f32; WIDE],
    piece: Box<[f32]>,
    bins: Box<[Complex<f32>]>,
    scratch: Box<[Complex<f32>]>,
}

impl Default for Silero {
    fn default() -> Self {
        let fft = &NETWORK.fft;
        Self {
            context: [0.0; CONTEXT],
            hidden: [0.0; WIDE],
            cell: [0.0; WIDE],
            piece: fft.make_input_vec().into(),
            bins: fft.make_output_vec().into(),
            scratch: fft.make_scratch_vec().into(),
        }
    }
}

impl Silero {
    /// Take the next window without looking at it. What was heard before is remembered: nobody will have spoken since, and that is
    /// how things stood (as good as looking at all of it, by measurement; to begin anew instead loses words).
    pub fn skip(&mut self, samples: &[f32; WINDOW]) {
        self.context.copy_from_slice(&samples[WINDOW - CONTEXT..]);
    }

    /// How likely it is that somebody speaks in the next window, 0 to 1.
    pub fn score(&mut self, samples: &[f32; WINDOW]) -> f32 {
        let network = &*NETWORK;
        let mut input = [0.0; INPUT];
        input[..CONTEXT].copy_from_slice(&self.context);
        input[CONTEXT..][..WINDOW].copy_from_slice(samples);
        for n in 0..MIRRORED {
            input[CONTEXT + WINDOW + n] = input[CONTEXT + WINDOW - 2 - n];
        }
        self.skip(samples);

        // What a convolution of three taps sees of each of its inputs, at each of its positions.
        let mut spectra = [[0.0; 3 * BINS]; SPECTRA];
        for at in 0..SPECTRA {
            for ((to, sample), weight) in self.piece.iter_mut().zip(&input[at * HOP..]).zip(&network.window) {
                *to = sample * weight;
            }
            // Fails for buffers of the wrong length only, and these are the plan's own.
            if network.fft.process_with_scratch(&mut self.piece, &mut self.bins, &mut self.scratch).is_err() {
                return 0.0;
            }
            for (bin, value) in self.bins.iter().enumerate() {
                let magnitude = value.norm_sqr().sqrt();
                for tap in 0..3 {
                    if let Some(seen) = (at + 1).checked_sub(tap).and_then(|to| spectra.get_mut(to)) {
                        seen[3 * bin + tap] = magnitude;
                    }
                }
            }
        }
        // From here on every second position counts: of four, the first and the third; of those two, the first.
        let mut halved = [[0.0; 3 * WIDE]; SPECTRA / 2];
        network.first.apply(spectra.each_ref().map(|seen| &seen[..]), |at, channel, sum| {
            for tap in 0..3 {
                let to = (at + 1).checked_sub(tap).filter(|to| to % 2 == 0);
                if let Some(seen) = to.and_then(|to| halved.get_mut(to / 2)) {
                    seen[3 * channel + tap] = sum.max(0.0);
                }
            }
        });
        let mut pairs = [0.0; 2 * NARROW];
        let seen = halved.each_ref().map(|seen| &seen[..]);
        network.second.apply(seen, |at, channel, sum| pairs[2 * channel + at] = sum.max(0.0));
        let mut narrow = [0.0; NARROW];
        network.third.apply([&pairs[..]], |_, channel, sum| narrow[channel] = sum.max(0.0));
        let mut state = [0.0; 2 * WIDE];
        network.fourth.apply([&narrow[..]], |_, channel, sum| state[channel] = sum.max(0.0));
        state[WIDE..].copy_from_slice(&self.hidden);
        let mut gates = [0.0; GATES];
        network.lstm.apply([&state[..]], |_, gate, sum| gates[gate] = sum);
        let mut sum = network.bias;
        for n in 0..WIDE {
            let [input, forget, cell, output] = std::array::from_fn(|gate| gates[gate * WIDE + n]);
            self.cell[n] = sigmoid(forget) * self.cell[n] + sigmoid(input) * tanh(cell);
            self.hidden[n] = sigmoid(output) * tanh(self.cell[n]);
            sum += network.last[n] * self.hidden[n].max(0.0);
        }
        sigmoid(sum)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Half the library's time, and here as good.
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
}
