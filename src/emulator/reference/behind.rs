//! By how much a receiver may let time stay behind for a sender's sake.

/// By how much a slow sender may hold the head back: the receiver follows the least lag of each two seconds, by a
/// millisecond each.
#[derive(Default)]
pub(super) struct Drift {
    window: Option<(i64, i64)>,
    windows: i64,
    greatest: i64,
    /// Samples.
    pub most: i64,
}

impl Drift {
    pub fn note(&mut self, at: i64, lag: i64, per_ms: i64) {
        let Some((begun, least)) = &mut self.window else {
            self.window = Some((at, lag));
            return;
        };
        *least = lag.min(*least);
        if at - *begun >= 2_000 * per_ms {
            self.windows += 1;
            self.greatest = self.greatest.max(*least);
            self.most = self.greatest.min(self.windows * per_ms);
            self.window = Some((at, lag));
        }
    }
}

/// By how much a way that became longer may hold the head back: the receiver follows the least lag of each 200 ms. Each of these
/// has one of the blocks of 100 ms in it that this looks at, and the least of that is no less.
#[derive(Default)]
pub(super) struct Detour {
    block: Option<Block>,
    /// The greatest lag so far.
    greatest: i64,
    /// Samples.
    pub most: i64,
}

#[derive(Clone, Copy)]
struct Block {
    number: i64,
    least: i64,
    epoch: (u32, u32, usize),
}

impl Detour {
    pub fn note(&mut self, at: i64, lag: i64, epoch: (u32, u32, usize), per_ms: i64) {
        let begun = Block { number: at.div_euclid(100 * per_ms), least: lag, epoch };
        let block = self.block.get_or_insert(begun);
        // What is not measured by one timeline says nothing, and neither do blocks in which nothing came.
        let says_all = block.epoch == epoch && begun.number <= block.number + 1;
        if !says_all {
            self.most = self.most.max(self.greatest);
        }
        self.greatest = self.greatest.max(lag);
        if block.number == begun.number && says_all {
            block.least = lag.min(block.least);
        } else {
            self.most = self.most.max(block.least);
            self.block = Some(begun);
        }
    }
}
