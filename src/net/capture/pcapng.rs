//! The newer format: sections of blocks (draft-ietf-opsawg-pcapng).

use std::io::Read;

use super::input::{Frame, Input, Order};
use super::{CaptureError, MAX_FRAME};
use crate::media::time::MediaInstant;

/// Type of a section header block, the same in both byte orders.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// Bytes of a block that is read into memory: a frame with room for options.
const MAX_BLOCK: u32 = MAX_FRAME as u32 + (64 << 10);
/// A section with more interfaces than this was not written by a capturing program.
const MAX_INTERFACES: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap: u32,
    resolution: Resolution,
    /// Seconds to add to every stamp.
    offset: i64,
}

/// Units a second of an interface's stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    Decimal(u8),
    Binary(u8),
}

impl Resolution {
    fn nanos(self, stamp: u64) -> i128 {
        let scaled = u128::from(stamp) * 1_000_000_000;
        let nanos = match self {
            Self::Decimal(digits) => 10_u128.checked_pow(u32::from(digits)).map_or(0, |units| scaled / units),
            Self::Binary(bits) => scaled >> bits,
        };
        // Below 2^94, as `scaled` is.
        nanos as i128
    }
}

impl Interface {
    fn instant(&self, stamp: u64) -> MediaInstant {
        let nanos = self.resolution.nanos(stamp) + i128::from(self.offset) * 1_000_000_000;
        MediaInstant::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Reads blocks.
#[derive(Debug)]
pub(super) struct Pcapng {
    order: Order,
    interfaces: Vec<Interface>,
    /// Stamp of the packet before, for simple packets, which have none.
    latest: MediaInstant,
}

struct Head {
    kind: u32,
    len: u32,
    /// Bytes read of the block.
    read: u32,
}

impl Pcapng {
    /// Read the first section's header, behind its type.
    pub(super) fn open<R: Read>(input: &mut Input<R>) -> Result<Self, CaptureError> {
        let mut this = Self { order: Order::Little, interfaces: Vec::new(), latest: MediaInstant::default() };
        let mut len = [0; 4];
        input.fill_all(&mut len, 0, 0)?;
        let head = this.begin_section(input, len, 0, 0)?;
        this.pass_over(input, &head, 0, 0)?;
        Ok(this)
    }

    /// The next frame, in `buffer`; `None` at the end. `packets` have been read before.
    pub(super) fn next_frame<R: Read>(
        &mut self,
        input: &mut Input<R>,
        buffer: &mut Vec<u8>,
        packets: u64,
    ) -> Result<Option<Frame>, CaptureError> {
        loop {
            let offset = input.offset();
            let Some(head) = self.next_head(input, offset, packets)? else { return Ok(None) };
            if !matches!(head.kind, INTERFACE | SIMPLE_PACKET | ENHANCED_PACKET) {
                self.pass_over(input, &head, offset, packets)?;
                continue;
            }
            let damaged = |what| CaptureError::Damaged { offset, what, packets };
            if head.len > MAX_BLOCK {
                return Err(damaged("a block of impossible length"));
            }
            buffer.resize((head.len - head.read) as usize, 0);
            input.fill_all(buffer, offset, packets)?;
            let body_len = buffer.len() - 4;
            if self.order.u32(buffer, body_len) != head.len {
                return Err(damaged("a block whose two lengths differ"));
            }
            let body = &buffer[..body_len];
            match head.kind {
                INTERFACE if self.interfaces.len() >= MAX_INTERFACES => {
                    return Err(damaged("too many interfaces"));
                }
                INTERFACE => {
                    self.interfaces.push(self.interface(body).ok_or(damaged("a short interface block"))?)
                }
                SIMPLE_PACKET => {
                    return self.simple(body).map(Some).ok_or(damaged("a bad simple packet block"));
                }
                _ => return self.enhanced(body).map(Some).ok_or(damaged("a bad enhanced packet block")),
            }
        }
    }

    fn next_head<R: Read>(
        &mut self,
        input: &mut Input<R>,
        offset: u64,
        packets: u64,
    ) -> Result<Option<Head>, CaptureError> {
        let mut head = [0; 8];
        match input.fill(&mut head)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(CaptureError::Truncated { packets, offset }),
        }
        let kind = self.order.u32(&head, 0);
        if kind == SECTION {
            let len = [head[4], head[5], head[6], head[7]];
            return self.begin_section(input, len, offset, packets).map(Some);
        }
        let head = Head { kind, len: self.order.u32(&head, 4), read: 8 };
        check_length(&head, offset, packets)?;
        Ok(Some(head))
    }

    fn begin_section<R: Read>(
        &mut self,
        input: &mut Input<R>,
        len: [u8; 4],
        offset: u64,
        packets: u64,
    ) -> Result<Head, CaptureError> {
        let mut mark = [0; 4];
        input.fill_all(&mut mark, offset, packets)?;
        self.order = if Order::Little.u32(&mark, 0) == BYTE_ORDER {
            Order::Little
        } else if Order::Big.u32(&mark, 0) == BYTE_ORDER {
            Order::Big
        } else {
            return Err(CaptureError::Damaged { offset, what: "a section without byte-order mark", packets });
        };
        self.interfaces.clear();
        let head = Head { kind: SECTION, len: self.order.u32(&len, 0), read: 12 };
        check_length(&head, offset, packets)?;
        Ok(head)
    }

    fn pass_over<R: Read>(
        &self,
        input: &mut Input<R>,
        head: &Head,
        offset: u64,
        packets: u64,
    ) -> Result<(), CaptureError> {
        input.skip(u64::from(head.len - head.read - 4), offset, packets)?;
        let mut again = [0; 4];
        input.fill_all(&mut again, offset, packets)?;
        if self.order.u32(&again, 0) != head.len {
            return Err(CaptureError::Damaged { offset, what: "a block whose two lengths differ", packets });
        }
        Ok(())
    }

    fn interface(&self, body: &[u8]) -> Option<Interface> {
        let mut options = body.get(8..)?;
        let mut interface = Interface {
            link: u32::from(self.order.u16(body, 0)),
            snap: self.order.u32(body, 4),
            resolution: Resolution::Decimal(6),
            offset: 0,
        };
        while options.len() >= 4 {
            let (code, len) = (self.order.u16(options, 0), usize::from(self.order.u16(options, 2)));
            let Some(value) = options[4..].get(..len) else { break };
            match code {
                0 => break,
                OPTION_RESOLUTION if len == 1 => {
                    interface.resolution = match value[0] {
                        v if v & 0x80 == 0 => Resolution::Decimal(v),
                        v => Resolution::Binary(v & 0x7f),
                    }
                }
                OPTION_OFFSET if len == 8 => interface.offset = self.order.u64(value, 0) as i64,
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(interface)
    }

    fn simple(&self, body: &[u8]) -> Option<Frame> {
        let interface = self.interfaces.first()?;
        let snap = if interface.snap == 0 { u32::MAX } else { interface.snap };
        let data = body.get(4..)?;
        let len = (self.order.u32(body, 0).min(snap) as usize).min(data.len());
        Some(Frame { at: self.latest, link: interface.link, data: 4..4 + len })
    }

    fn enhanced(&mut self, body: &[u8]) -> Option<Frame> {
        let data = body.get(20..)?;
        let interface = self.interfaces.get(self.order.u32(body, 0) as usize)?;
        let stamp = u64::from(self.order.u32(body, 4)) << 32 | u64::from(self.order.u32(body, 8));
        let len = self.order.u32(body, 12) as usize;
        if len > data.len() || len > MAX_FRAME {
            return None;
        }
        self.latest = interface.instant(stamp);
        Some(Frame { at: self.latest, link: interface.link, data: 20..20 + len })
    }
}

fn check_length(head: &Head, offset: u64, packets: u64) -> Result<(), CaptureError> {
    if head.len < head.read + 4 || !head.len.is_multiple_of(4) {
        return Err(CaptureError::Damaged { offset, what: "a block of impossible length", packets });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_every_resolution_are_nanoseconds() {
        assert_eq!(Resolution::Decimal(6).nanos(1_500_000), 1_500_000_000);
        assert_eq!(Resolution::Decimal(9).nanos(u64::MAX), i128::from(u64::MAX));
        assert_eq!(Resolution::Decimal(0).nanos(3), 3_000_000_000);
        assert_eq!(Resolution::Decimal(127).nanos(u64::MAX), 0);
        assert_eq!(Resolution::Binary(10).nanos(1_536), 1_500_000_000);
        assert_eq!(Resolution::Binary(127).nanos(u64::MAX), 0);
    }

    #[test]
    fn an_offset_moves_stamps_and_never_below_zero() {
        let interface = |offset| Interface { link: 1, snap: 0, resolution: Resolution::Decimal(6), offset };
        assert_eq!(interface(5).instant(1), MediaInstant::from_nanos(5_000_001_000));
        assert_eq!(interface(i64::MIN).instant(1), MediaInstant::from_nanos(0));
        assert_eq!(interface(i64::MAX).instant(1), MediaInstant::from_nanos(u64::MAX));
    }
}
