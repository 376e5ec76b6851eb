//! Access control: a bearer token, and the addresses that require one.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq;

/// Minimum length of a token: shorter ones can be guessed.
const SHORTEST: usize = 16;
/// Maximum length of a token: it travels in a header.
const LONGEST: usize = 1_024;

/// The access rule of an interface.
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

/// An invalid token, or an address that requires one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The token is too short, too long, or has other characters. The message does not show it.
    #[error("the token has {0}; allowed is one line of 16 to 1024 visible ASCII characters, without spaces")]
    BadToken(String),
    /// Everyone who reaches this address could do everything.
    #[error("{0} is reachable from other machines and requires a token; set a token or listen on loopback")]
    NeedsToken(SocketAddr),
}

impl Access {
    /// Access without a token.
    pub fn open() -> Self {
        Self::default()
    }

    /// Access with a token: the content of a token file. A final line break is ignored.
    ///
    /// # Errors
    /// If the token is invalid; the message names the fault but not the token.
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

    /// True if a token is required.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// True if a request with these headers is authorized.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        // Two values are refused: a proxy and this server might use different ones.
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, given)) = split(value.as_bytes()) else { return false };
        // The length may leak, the characters may not: the comparison takes constant time.
        scheme.eq_ignore_ascii_case(b"bearer") && bool::from(token.as_bytes().ct_eq(given))
    }
}

/// Scheme and credentials, separated by at least one space (RFC 9110, section 11.4).
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

/// Checks that the interface may listen on `address`: a non-loopback address requires a token.
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
    fn only_the_exact_token_is_accepted() {
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
    fn an_invalid_token_is_refused_and_never_shown() {
        for bad in ["", "\n", "short", "with a space in it, long enough", "k3Jq-9sdf\n-Xw2m-77Tz", &"x".repeat(1_025)] {
            let error = Access::with_token(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad.trim()), "{error}");
        }
        assert_eq!(format!("{:?}", Access::with_token(&format!("{TOKEN}\r\n")).unwrap()), "Access(a token)");
    }

    #[test]
    fn a_non_loopback_address_requires_a_token() {
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
