//! What a TLS client has against a server. The libraries that speak TLS for us (of AMQP, PostgreSQL, Redis) pass on rustls's error in words
//! alone, each in a type of its own: hence the words are looked at.

/// Why a certificate is not believed, where something can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is signed by nobody who is trusted.
    Authority,
    /// It is for another name than was connected to.
    Name,
}

/// What `error` says of a certificate.
pub fn distrust(error: &str) -> Option<Distrust> {
    if error.contains("UnknownIssuer") {
        Some(Distrust::Authority)
    } else if error.contains("NotValidForName") || error.contains("not valid for name") {
        Some(Distrust::Name)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError::{BadEncoding, NotValidForName, UnknownIssuer};
    use rustls::Error::InvalidCertificate;

    use super::*;

    #[test]
    fn rustls_own_words_are_understood() {
        let of = |error| distrust(&InvalidCertificate(error).to_string());
        assert_eq!(of(UnknownIssuer), Some(Distrust::Authority));
        assert_eq!(of(NotValidForName), Some(Distrust::Name));
        assert_eq!(of(BadEncoding), None);
    }
}
