//! Paths of requests.

/// `/channels/<id>/…` from its parts, each of them percent-encoded. `None` if a part cannot be one: no id is empty, `.` or `..`,
/// and the latter two would change the path.
pub(super) fn join(parts: &[&str]) -> Option<String> {
    let mut path = String::with_capacity(64);
    for part in parts {
        if matches!(*part, "" | "." | "..") {
            return None;
        }
        path.push('/');
        encode(part, &mut path);
    }
    Some(path)
}

// Stricter than RFC 3986 asks: Asterisk reads `+` as a space in some places, and channel names hold `/`, `;` and `@`.
fn encode(part: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_encoded() {
        let path = join(&["channels", "PJSIP/alice+b;2 ä%.1"]).unwrap();
        assert_eq!(path, "/channels/PJSIP%2Falice%2Bb%3B2%20%C3%A4%25.1");
    }

    #[test]
    fn parts_that_would_change_the_path_are_refused() {
        for bad in ["", ".", ".."] {
            assert_eq!(join(&["channels", bad]), None);
        }
    }
}
