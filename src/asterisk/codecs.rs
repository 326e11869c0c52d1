//! Codecs that are modules of Asterisk: without them a leg in their format is made, and nothing ever comes from it.

use thiserror::Error;

use super::ari::{AriClient, AriError, Module};

/// Formats that one module alone makes, and how its name begins. G.711 is not among them, as codec_a_mu makes one law of
/// the other, nor linear PCM, which the codecs of other rates convert as well. There are two modules for Opus: codec_opus.so of
/// Asterisk's maker, and the free codec_opus_open_source.so of the distributions. Seen on 22.10 and 16.28: ARI lists both
/// kinds of module, and nothing of translation paths.
const MODULES: &[(&str, &str)] = &[("g722", "codec_g722"), ("gsm", "codec_gsm"), ("opus", "codec_opus")];

/// Asterisk makes no audio of a format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{format} needs a codec that this Asterisk has not loaded: load {module}.so (modules.conf; it may be a package of its own), \
     or use another `rtp.format`"
)]
pub struct NoCodec {
    /// Asterisk's name of the format.
    pub format: String,
    /// How the module's name begins.
    pub module: &'static str,
}

impl AriClient {
    /// What is missing for legs in `format`, by Asterisk's name of it; `None`: nothing.
    ///
    /// # Errors
    /// Any [`AriError`].
    pub async fn lacks_codec(&self, format: &str) -> Result<Option<NoCodec>, AriError> {
        let Some(module) = module_of(format) else { return Ok(None) };
        let has_it = makes(&self.modules().await?, module);
        Ok((!has_it).then(|| NoCodec { format: format.to_owned(), module }))
    }
}

fn module_of(format: &str) -> Option<&'static str> {
    MODULES.iter().find(|(made, _)| *made == format).map(|(_, module)| *module)
}

fn makes(modules: &[Module], module: &str) -> bool {
    modules.iter().any(|found| found.name.starts_with(module) && found.is_running())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;

    fn module(name: &str, status: &str) -> Module {
        Module { name: name.to_owned(), status: status.to_owned(), ..Module::default() }
    }

    #[test]
    fn either_module_of_opus_will_do_if_it_runs() {
        let opus = module_of("opus").unwrap();
        for name in ["codec_opus.so", "codec_opus_open_source.so"] {
            assert!(makes(&[module("chan_rtp.so", "Running"), module(name, "Running")], opus), "{name}");
            assert!(!makes(&[module(name, "Not Running")], opus), "{name}");
        }
        // It knows the words of SDP alone.
        assert!(!makes(&[module("res_format_attr_opus.so", "Running")], opus));
    }

    #[test]
    fn formats_with_memory_need_a_module_and_the_others_none() {
        for codec in Codec::ALL {
            assert_eq!(module_of(codec.name()).is_some(), codec.is_stateful(), "{}", codec.name());
        }
    }
}
