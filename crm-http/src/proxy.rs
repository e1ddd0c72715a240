//! Which address a request came from, when proxies stand in front.
//!
//! Anybody can write `X-Forwarded-For`, so it is believed only as far as proxies that the operator
//! trusts wrote it: read from the right, the first address that is none of theirs is the client.
//! Without trusted proxies the header is not looked at.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crm_core::Error;
use ipnet::IpNet;
use poem::http::{HeaderMap, HeaderName};

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most proxies a request is followed through.
const MOST_HOPS: usize = 16;

/// The networks whose hosts may say for whom they ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Adds a network, such as `10.0.0.0/8`, or one address.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a text that is neither.
    pub fn with(mut self, network: &str) -> Result<Self, Error> {
        let one = || network.parse::<IpAddr>().ok().map(IpNet::from);
        let network = network.parse().ok().or_else(one).ok_or_else(|| {
            let line = format!("{network:?} is no network: write 10.0.0.0/8 or 192.0.2.1");
            Error::Configuration(line.into())
        })?;
        self.0.push(network);
        Ok(self)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer`.
    pub(crate) fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer?.to_canonical();
        let lines = headers.get_all(FORWARDED).iter();
        let lines: Vec<&[u8]> = lines.map(|line| line.as_bytes()).collect();
        let comma = |byte: &u8| *byte == b',';
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(comma));
        for hop in hops.take(MOST_HOPS) {
            if !self.trusts(client) {
                break;
            }
            // What cannot be read was written by somebody who is not trusted.
            let text = std::str::from_utf8(hop).unwrap_or("");
            let Some(address) = read(text.trim()) else {
                break;
            };
            client = address;
        }
        Some(client)
    }
}

/// An address, with or without a port and brackets.
fn read(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = IpAddr::from_str(bare).ok();
    let with_port = || SocketAddr::from_str(text).ok().map(|socket| socket.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let proxies = trusted
            .iter()
            .try_fold(TrustedProxies::default(), |all, one| all.with(one))
            .unwrap();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED, HeaderValue::from_str(line).unwrap());
        }
        let peer = peer.parse().unwrap();
        proxies.client(Some(peer), &headers).unwrap().to_string()
    }

    #[test]
    fn xc_15_without_trusted_proxies_the_header_is_ignored() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        let elsewhere = client(&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.7"]);
        assert_eq!(elsewhere, "192.0.2.1");
    }

    #[test]
    fn xc_15_the_client_is_the_first_from_the_right_that_is_no_proxy() {
        let trusted = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"];
        let cases = [
            (vec!["198.51.100.7"], "198.51.100.7"),
            (vec!["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            (vec!["1.1.1.1, 198.51.100.7, 10.0.0.9"], "198.51.100.7"),
            (vec!["1.1.1.1", "198.51.100.7", "10.0.0.9"], "198.51.100.7"),
            (vec!["198.51.100.7:4711"], "198.51.100.7"),
            (vec!["[2001:db9::1]:4711, 2001:db8::5"], "2001:db9::1"),
            (vec!["::ffff:198.51.100.7"], "198.51.100.7"),
            (vec![], "10.1.2.3"),
            (vec!["10.0.0.9"], "10.0.0.9"),
        ];
        for (forwarded, expected) in cases {
            assert_eq!(client(&trusted, "10.1.2.3", &forwarded), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_trust() {
        for odd in ["unknown", "", "198.51.100.7, ;DROP TABLE", "_hidden, x"] {
            assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &[odd]), "10.1.2.3");
        }
        let long = vec!["10.0.0.1"; 100].join(", ");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.2.3", &[&long]), "10.0.0.1");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for odd in ["", "10.0.0.0/33", "proxy.example", "10.0.0"] {
            assert!(TrustedProxies::default().with(odd).is_err(), "{odd}");
        }
    }
}
