//! The classic format: a header, then records (draft-ietf-opsawg-pcap).

use std::io::Read;

use super::input::{Frame, Input, Order};
use super::{CaptureError, MAX_FRAME, packet};
use crate::media::time::MediaInstant;

/// What the magic number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    order: Order,
    /// Of the stamps' fraction.
    nanos_per_unit: u64,
}

impl Kind {
    pub(super) fn of(magic: [u8; 4]) -> Option<Self> {
        let (order, nanos_per_unit) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1_000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1_000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1),
            _ => return None,
        };
        Some(Self { order, nanos_per_unit })
    }
}

/// Reads records.
#[derive(Debug)]
pub(super) struct Pcap {
    kind: Kind,
    link: u32,
}

impl Pcap {
    /// Read the rest of the file's header, behind the magic number.
    pub(super) fn open<R: Read>(kind: Kind, input: &mut Input<R>) -> Result<Self, CaptureError> {
        let mut header = [0; 20];
        input.fill_all(&mut header, 0, 0)?;
        // The upper bits tell of a frame check sequence, which the IP lengths leave out anyway.
        let link = kind.order.u32(&header, 16) & 0xffff;
        if !packet::is_known(link) {
            return Err(CaptureError::LinkType { link, offset: 20 });
        }
        Ok(Self { kind, link })
    }

    /// The next frame, in `buffer`; `None` at the end. `packets` have been read before.
    pub(super) fn next_frame<R: Read>(
        &mut self,
        input: &mut Input<R>,
        buffer: &mut Vec<u8>,
        packets: u64,
    ) -> Result<Option<Frame>, CaptureError> {
        let offset = input.offset();
        let mut header = [0; 16];
        match input.fill(&mut header)? {
            0 => return Ok(None),
            16 => {}
            _ => return Err(CaptureError::Truncated { packets, offset }),
        }
        let Kind { order, nanos_per_unit } = self.kind;
        let len = order.u32(&header, 8) as usize;
        if len > MAX_FRAME {
            return Err(CaptureError::Damaged { offset, what: "a packet of impossible length", packets });
        }
        buffer.resize(len, 0);
        input.fill_all(buffer, offset, packets)?;
        let seconds = u64::from(order.u32(&header, 0));
        let fraction = u64::from(order.u32(&header, 4));
        let at = MediaInstant::from_nanos(seconds * 1_000_000_000 + fraction * nanos_per_unit);
        Ok(Some(Frame { at, link: self.link, data: 0..len }))
    }
}
