//! Which RTP streams of a capture are the legs.

use std::path::Path;

use anyhow::bail;

use super::for_each;
use crate::cli::output::tell;
use crate::media::codec::Codec;
use crate::net::capture::CapturedDatagram;
use crate::net::capture::streams::{RtpFlow, StreamFinder};

/// Streams that are listed; a capture of a busy trunk may have thousands.
const LISTED: usize = 40;

/// A leg: what one sender sends to one receiver.
pub(super) struct Chosen {
    pub flow: RtpFlow,
    pub codec: Codec,
    /// Only this synchronisation source of it.
    ssrc: Option<u32>,
}

impl Chosen {
    /// Whether the datagram is of this leg.
    pub(super) fn has(&self, datagram: &CapturedDatagram) -> bool {
        let is_its = |ssrc: u32| datagram.payload.get(8..12) == Some(&ssrc.to_be_bytes()[..]);
        (self.flow.src, self.flow.dst) == (datagram.src, datagram.dst) && self.ssrc.is_none_or(is_its)
    }

    fn whole(flow: RtpFlow) -> Option<Self> {
        let codec = codec_of(&flow)?;
        Some(Self { flow, codec, ssrc: None })
    }

    fn only(flow: &RtpFlow, ssrc: u32) -> Option<Self> {
        let streams = flow.streams.iter().filter(|stream| stream.ssrc == ssrc).cloned().collect();
        let flow = RtpFlow { streams, ..flow.clone() };
        let codec = (!flow.streams.is_empty()).then(|| codec_of(&flow)).flatten()?;
        Some(Self { flow, codec, ssrc: Some(ssrc) })
    }
}

/// A synchronisation source as people write it: hexadecimal, with or without `0x`.
pub(super) fn ssrc(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u32::from_str_radix(digits, 16).map_err(|_| "write it in hexadecimal, as 0x1A2B3C4D".to_owned())
}

/// The legs, left and right: the streams with the SSRCs `wanted`, in that order, or else the first two to appear.
pub(super) fn choose(path: &Path, wanted: &[u32]) -> anyhow::Result<Vec<Chosen>> {
    let mut finder = StreamFinder::new();
    for_each(path, |datagram| finder.add(datagram), true)?;
    let flows = finder.flows();
    let legs = if wanted.is_empty() { first_two(path, &flows) } else { by_ssrc(path, &flows, wanted)? };
    let Some(first) = legs.first() else {
        let names = Codec::ALL.map(Codec::name);
        bail!("{}: no RTP stream in it of a codec that is understood ({})", path.display(), names.join(", "));
    };
    if let Some(other) = legs.iter().find(|leg| leg.codec.sample_rate() != first.codec.sample_rate()) {
        bail!(
            "{}: the legs differ in sample rate ({} and, from {}, {}): replay them one at a time, with --ssrc",
            path.display(),
            first.codec.name(),
            other.flow.src,
            other.codec.name()
        );
    }
    Ok(legs)
}

fn first_two(path: &Path, flows: &[RtpFlow]) -> Vec<Chosen> {
    let mut legs: Vec<_> = flows.iter().cloned().filter_map(Chosen::whole).collect();
    if flows.len() > 2 {
        let first = "the legs are the first two that are understood; others are chosen with --ssrc";
        tell(format_args!("{}: {} RTP streams, {first}:\n{}", path.display(), flows.len(), list(flows)));
    } else {
        for flow in flows.iter().filter(|flow| codec_of(flow).is_none()) {
            tell(format_args!(
                "{}: a stream of no codec that is understood is left out:\n{}",
                path.display(),
                list(std::slice::from_ref(flow))
            ));
        }
    }
    legs.truncate(2);
    legs
}

fn by_ssrc(path: &Path, flows: &[RtpFlow], wanted: &[u32]) -> anyhow::Result<Vec<Chosen>> {
    let mut legs = Vec::new();
    for &ssrc in wanted {
        match flows.iter().find_map(|flow| Chosen::only(flow, ssrc)) {
            Some(leg) => legs.push(leg),
            None => bail!(
                "{}: no RTP stream that is understood has the SSRC {ssrc:#010x}; there are:\n{}",
                path.display(),
                list(flows)
            ),
        }
    }
    Ok(legs)
}

fn codec_of(flow: &RtpFlow) -> Option<Codec> {
    let known = |pt: u8| Codec::from_payload_type(pt).is_some();
    flow.main_payload_type(known).and_then(Codec::from_payload_type)
}

/// A line a stream, in order of appearance.
fn list(flows: &[RtpFlow]) -> String {
    let mut lines: Vec<_> =
        flows.iter().flat_map(|flow| flow.streams.iter().map(|s| (s, codec_of(flow)))).collect();
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    let line = |(s, codec): (&crate::net::capture::streams::RtpStream, Option<Codec>)| {
        let types: Vec<_> = s.payload_types.keys().map(ToString::to_string).collect();
        let codec =
            codec.map_or_else(|| format!("payload type {}", types.join(", ")), |c| c.name().to_owned());
        let seconds = s.last.as_nanos().saturating_sub(s.first.as_nanos()) as f64 / 1e9;
        format!(
            "  ssrc {:#010x}  {} → {}  {codec}  {} packets  {seconds:.1} s",
            s.ssrc, s.src, s.dst, s.packets
        )
    };
    let mut lines: Vec<_> = lines.into_iter().map(line).collect();
    if more > 0 {
        lines.push(format!("  … and {more} more"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::ssrc;

    #[test]
    fn an_ssrc_is_hexadecimal() {
        assert_eq!(ssrc("0x1a2B"), Ok(0x1a2b));
        assert_eq!(ssrc("DEADBEEF"), Ok(0xdead_beef));
        for bad in ["", "0x", "xyz", "123456789"] {
            assert!(ssrc(bad).is_err(), "{bad}");
        }
    }
}
