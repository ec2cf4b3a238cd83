//! Ids of traces and spans, and where they come from: a small generator a worker, seeded from the system's.

use std::{cell::RefCell, fmt};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

/// Id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TraceId(u128);

/// Id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SpanId(u64);

impl TraceId {
    /// None where it is zero, which is no id.
    pub(crate) fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// 32 digits.
    pub(crate) fn hex(self) -> [u8; 32] {
        digits(self.0)
    }
}

impl SpanId {
    /// None where it is zero, which is no id.
    pub(crate) fn new(id: u64) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// 16 digits.
    pub(crate) fn hex(self) -> [u8; 16] {
        digits(self.0.into())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn digits<const N: usize>(value: u128) -> [u8; N] {
    std::array::from_fn(|at| {
        let shift = 4 * (N - 1 - at);
        b"0123456789abcdef"[(value >> shift) as usize & 15]
    })
}

/// Makes ids on one worker. Not for secrets: whoever sees some can guess others.
pub(super) struct Ids(RefCell<SmallRng>);

impl Ids {
    pub(super) fn new() -> Self {
        Self(RefCell::new(SmallRng::from_rng(&mut rand::rng())))
    }

    pub(super) fn trace(&self) -> TraceId {
        TraceId(self.0.borrow_mut().random::<u128>() | 1)
    }

    pub(super) fn span(&self) -> SpanId {
        SpanId(self.0.borrow_mut().random::<u64>() | 1)
    }

    /// Uniform over all values.
    pub(super) fn random(&self) -> u64 {
        self.0.borrow_mut().random()
    }
}
