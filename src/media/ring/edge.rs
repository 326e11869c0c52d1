//! How far rings have come. The edges of many rings lie together, since every packet moves one: four share a line of the
//! processor's cache, and 256 a page, where beside each ring's own memory they would take a page each.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::sync::AtomicU64;

/// 64 edges of 16 bytes: a quarter of a page.
const EDGES: usize = 64;

/// Edges that no ring has.
static FREE: Mutex<Vec<Edge>> = Mutex::new(Vec::new());

#[derive(Debug, Default)]
#[repr(align(16))]
struct Pair {
    head: AtomicU64,
    heard: AtomicU64,
}

/// Where the edge of a ring is kept.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    block: Arc<[Pair; EDGES]>,
    at: usize,
}

impl Edge {
    /// Ring samples published: every sample below is placed, or accounted for as missing.
    pub fn head(&self) -> &AtomicU64 {
        &self.block[self.at].head
    }

    /// Ring samples up to the end of the last one received.
    pub fn heard(&self) -> &AtomicU64 {
        &self.block[self.at].heard
    }
}

/// An edge that is one ring's own, and goes back to the others with it.
#[derive(Debug)]
pub(super) struct OwnEdge(Edge);

impl OwnEdge {
    /// Both at 0.
    pub fn new() -> Self {
        // Of a model checker's atomics every execution needs its own.
        if cfg!(loom) {
            return Self(Edge { block: block(), at: 0 });
        }
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let edge = free.pop().unwrap_or_else(|| {
            let block = block();
            free.extend((1..EDGES).rev().map(|at| Edge { block: block.clone(), at }));
            Edge { block, at: 0 }
        });
        drop(free);
        for at in [edge.head(), edge.heard()] {
            at.store(0, super::Ordering::Relaxed);
        }
        Self(edge)
    }
}

fn block() -> Arc<[Pair; EDGES]> {
    Arc::new(std::array::from_fn(|_| Pair::default()))
}

impl std::ops::Deref for OwnEdge {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

impl Drop for OwnEdge {
    fn drop(&mut self) {
        if !cfg!(loom) {
            FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0.clone());
        }
    }
}
