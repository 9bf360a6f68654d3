//! Which reply addresses are accepted: sockets in the sidecar's own directory and nothing else, so
//! that no client can make the daemon connect elsewhere.

use super::{CALL, Directory, Kind};

/// Why a reply address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is none.
    #[error("the request names no reply address")]
    Missing,
    /// Some other transport, or no endpoint at all.
    #[error("the reply address {0:?} does not begin with ipc://")]
    NotIpc(String),
    /// A place where this sidecar does not answer.
    #[error("the reply address {0:?} is not a socket directly in the sidecar's directory")]
    Outside(String),
    /// One of the sidecar's own sockets.
    #[error("the reply address {0:?} is one of the sidecar's own sockets")]
    Own(String),
    /// An answer goes where the request came from.
    #[error(
        "the reply address {0:?} is not asked for: requests to \"call\" are answered where they came from, so leave it empty"
    )]
    Unasked(String),
}

impl AddressError {
    pub(super) fn unasked(address: &str) -> Self {
        Self::Unasked(shown(address))
    }
}

/// As much of an address as is worth telling.
fn shown(address: &str) -> String {
    address.chars().take(ADDRESS_BYTES_MAX).collect()
}

const ADDRESS_BYTES_MAX: usize = 128;

/// Checks a reply address and gives it back if it is one.
pub(super) fn check(address: &str, directory: &Directory) -> Result<String, AddressError> {
    if address.is_empty() {
        return Err(AddressError::Missing);
    }
    if !address.starts_with("ipc://") {
        return Err(AddressError::NotIpc(shown(address)));
    }
    let name = name_begins(address, directory).and_then(|begins| address.get(begins..));
    let name = name.ok_or_else(|| AddressError::Outside(shown(address)))?;
    let is_plain_name = !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
        && address.len() <= ADDRESS_BYTES_MAX;
    if !is_plain_name {
        return Err(AddressError::Outside(shown(address)));
    }
    if name == CALL || Kind::named(name.as_bytes()).is_some() {
        return Err(AddressError::Own(shown(address)));
    }
    Ok(address.to_owned())
}

/// Where the socket's name begins in an address that is in the sidecar's directory.
pub(super) fn name_begins(address: &str, directory: &Directory) -> Option<usize> {
    let path = address.strip_prefix("ipc://")?;
    let inside = |spelling: &String| path.strip_prefix(spelling.as_str())?.strip_prefix('/');
    let name = directory.spellings().iter().find_map(inside)?;
    Some(address.len() - name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_in_the_directory_are_answered() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::lock(place.path()).unwrap();
        let here = &directory.spellings()[0];
        let good = format!("ipc://{here}/get_0");
        assert_eq!(check(&good, &directory), Ok(good.clone()));
        let own = format!("ipc://{here}/commit");
        assert_eq!(check(&own, &directory), Err(AddressError::Own(own.clone())));
        for outside in [
            format!("ipc://{here}/../x"),
            format!("ipc://{here}/a/b"),
            format!("ipc://{here}/.."),
            format!("ipc://{here}/"),
            format!("ipc://{here}"),
            format!("ipc://{here}x/get_0"),
            "ipc://@abstract".to_owned(),
            "ipc:///etc/x".to_owned(),
        ] {
            let refused = check(&outside, &directory);
            assert_eq!(refused, Err(AddressError::Outside(outside.clone())), "{outside}");
        }
        for other in ["tcp://10.0.0.1:80", "inproc://x", "get_0", "\u{0}"] {
            assert_eq!(check(other, &directory), Err(AddressError::NotIpc(other.to_owned())));
        }
        assert_eq!(check("", &directory), Err(AddressError::Missing));
    }

    #[test]
    fn a_link_to_the_directory_is_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let directory = Directory::lock(&link).unwrap();
        for spelling in [&link, &real.canonicalize().unwrap()] {
            let address = format!("ipc://{}/put_1", spelling.display());
            assert!(check(&address, &directory).is_ok(), "{address}");
        }
    }
}
