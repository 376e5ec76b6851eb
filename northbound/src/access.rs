//! Who may ask: a token, and where it is needed.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// A token has at least so many characters: what is shorter can be tried out.
const SHORTEST: usize = 16;
/// And at most so many: it travels in a header.
const LONGEST: usize = 1_024;

/// Who may ask.
///
/// ```
/// use northbound::{Access, check_listen};
///
/// let everywhere = "0.0.0.0:8088".parse()?;
/// assert!(check_listen(everywhere, &Access::open()).is_err());
/// assert!(check_listen(everywhere, &Access::with_token("k3Jq-9sdf-Xw2m-77Tz\n")?).is_ok());
/// assert!(check_listen("127.0.0.1:8088".parse()?, &Access::open()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Access {
    token: Option<Arc<str>>,
}

/// Why a token is none, or why nobody may listen there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The token is too short, too long, or has other characters. It is not shown.
    #[error("the token has {0}; allowed is one line of 16 to 1024 visible ASCII characters, without spaces")]
    BadToken(String),
    /// Whoever reaches this address could do everything.
    #[error("{0} is reached from other machines, and there is no token; give one, or listen on loopback")]
    NeedsToken(SocketAddr),
}

impl Access {
    /// Everybody who reaches it.
    pub fn open() -> Self {
        Self::default()
    }

    /// Those who have the token: the text of a file, whose last line break does not count.
    ///
    /// # Errors
    /// Where it is no token, with what is wrong and without the token.
    pub fn with_token(text: &str) -> Result<Self, AccessError> {
        let token = text.strip_suffix('\n').unwrap_or(text);
        let token = token.strip_suffix('\r').unwrap_or(token);
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessError::BadToken("a character that is not visible ASCII".into()));
        }
        if !(SHORTEST..=LONGEST).contains(&token.len()) {
            return Err(AccessError::BadToken(format!("{} characters", token.len())));
        }
        Ok(Self { token: Some(token.into()) })
    }

    /// True where a token is needed.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// True where a request with these headers may pass.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        // Two of them are none: a proxy and we might not look at the same one.
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, given)) = split(value.as_bytes()) else { return false };
        // The length may be found out, the characters may not: the comparison takes as long wherever they differ.
        scheme.eq_ignore_ascii_case(b"bearer") && bool::from(token.as_bytes().ct_eq(given))
    }
}

/// Scheme and credentials: RFC 9110, section 11.4, has one space or more between them.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    Some((scheme, rest.trim_ascii()))
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.needs_token() { "Access(a token)" } else { "Access(open)" })
    }
}

/// Whether `address` may be listened on: one that other machines reach needs a token.
///
/// # Errors
/// [`AccessError::NeedsToken`].
pub fn check_listen(address: SocketAddr, access: &Access) -> Result<(), AccessError> {
    if address.ip().to_canonical().is_loopback() || access.needs_token() {
        return Ok(());
    }
    Err(AccessError::NeedsToken(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "k3Jq-9sdf-Xw2m-77Tz";

    #[test]
    fn only_the_token_itself_passes() {
        let access = Access::with_token(TOKEN).unwrap();
        let admits = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            access.admits(&headers)
        };
        let good = format!("Bearer {TOKEN}");
        assert!(admits(&[&good]) && admits(&[&format!("bearer  {TOKEN}")]));
        let half = format!("Bearer {}", &TOKEN[..18]);
        let longer = format!("Bearer {TOKEN}x");
        for bad in ["", "Bearer", "Bearer ", TOKEN, "Basic a3Jx", "Bearer x", &half, &longer, &good.to_uppercase()] {
            assert!(!admits(&[bad]), "{bad}");
        }
        assert!(!admits(&[]) && !admits(&[&good, &good]));
    }

    #[test]
    fn what_is_no_token_is_refused_and_none_is_ever_shown() {
        for bad in ["", "\n", "short", "with a space in it, long enough", "k3Jq-9sdf\n-Xw2m-77Tz", &"x".repeat(1_025)] {
            let error = Access::with_token(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad.trim()), "{error}");
        }
        assert_eq!(format!("{:?}", Access::with_token(&format!("{TOKEN}\r\n")).unwrap()), "Access(a token)");
    }

    #[test]
    fn beyond_loopback_a_token_is_needed() {
        let with = Access::with_token(TOKEN).unwrap();
        for (address, needs) in [
            ("127.0.0.1:1", false),
            ("127.9.9.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.168.0.7:1", true),
            ("[::ffff:10.0.0.1]:1", true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(check_listen(address, &Access::open()).is_err(), needs, "{address}");
            assert_eq!(check_listen(address, &with), Ok(()));
        }
    }
}
