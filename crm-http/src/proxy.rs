//! Which address a request came from, when proxies stand in front.
//!
//! Anybody can write `X-Forwarded-For`, so it is believed only as far as proxies that the operator
//! trusts wrote it: read from the right, the first address that is none of theirs is the client. Where
//! their addresses are not known, but their number is, it is the address that the first of them wrote.
//! Without trusted proxies the header is not looked at.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crm_core::Error;
use ipnet::IpNet;
use poem::http::{HeaderMap, HeaderName};

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most proxies a request is followed through.
const MOST_HOPS: usize = 16;

/// The proxies that may say for whom they ask: by their networks, or by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Trust);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Trust {
    Networks(Vec<IpNet>),
    /// Every request comes through so many.
    Hops(usize),
}

impl Default for Trust {
    fn default() -> Self {
        Self::Networks(Vec::new())
    }
}

impl TrustedProxies {
    /// Proxies of unknown addresses, which each add to `X-Forwarded-For` whom they were asked by: the
    /// client is the address at this place from the right. Only for a server that nobody reaches but
    /// through all of them.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a number that is not 1 to 16.
    pub fn hops(number: usize) -> Result<Self, Error> {
        match (1..=MOST_HOPS).contains(&number) {
            true => Ok(Self(Trust::Hops(number))),
            false => {
                let line = format!("{number} trusted hops are none: give 1 to {MOST_HOPS}");
                Err(Error::Configuration(line.into()))
            }
        }
    }

    /// Adds a network, such as `10.0.0.0/8`, or one address.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a text that is neither, and where hops are counted.
    pub fn with(self, network: &str) -> Result<Self, Error> {
        let Self(Trust::Networks(mut networks)) = self else {
            let line =
                "trusted proxies are known by their networks or by their number, not by both";
            return Err(Error::Configuration(line.into()));
        };
        let one = || network.parse::<IpAddr>().ok().map(IpNet::from);
        let network = network.parse().ok().or_else(one).ok_or_else(|| {
            let line = format!("{network:?} is no network: write 10.0.0.0/8 or 192.0.2.1");
            Error::Configuration(line.into())
        })?;
        networks.push(network);
        Ok(Self(Trust::Networks(networks)))
    }

    /// The client of a request that came from `peer`.
    pub(crate) fn client(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer?.to_canonical();
        let lines = headers.get_all(FORWARDED).iter();
        let lines: Vec<&[u8]> = lines.map(|line| line.as_bytes()).collect();
        let comma = |byte: &u8| *byte == b',';
        let from_right = lines.iter().rev().flat_map(|line| line.rsplit(comma));
        // What cannot be read was written by somebody who is not trusted.
        let mut from_right =
            from_right.map(|hop| read(std::str::from_utf8(hop).unwrap_or("").trim()));
        match &self.0 {
            Trust::Networks(networks) => Some(behind(networks, peer, from_right)),
            // A list that is too short has passed by a proxy: nobody vouches for it.
            Trust::Hops(number) => Some(from_right.nth(number - 1).flatten().unwrap_or(peer)),
        }
    }
}

/// The first address that is in none of these networks.
fn behind(
    networks: &[IpNet],
    peer: IpAddr,
    from_right: impl Iterator<Item = Option<IpAddr>>,
) -> IpAddr {
    let trusts = |address: IpAddr| networks.iter().any(|network| network.contains(&address));
    let mut client = peer;
    for hop in from_right.take(MOST_HOPS) {
        match hop {
            Some(address) if trusts(client) => client = address,
            _ => break,
        }
    }
    client
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
    fn xc_15_behind_so_many_hops_the_client_is_at_that_place_from_the_right() {
        let client = |hops, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append(FORWARDED, HeaderValue::from_str(line).unwrap());
            }
            let peer = Some("10.1.2.3".parse().unwrap());
            let proxies = TrustedProxies::hops(hops).unwrap();
            proxies.client(peer, &headers).unwrap().to_string()
        };
        let forged = "1.1.1.1, 2.2.2.2, 198.51.100.7, 203.0.113.9";
        for (hops, forwarded, expected) in [
            (1, vec!["198.51.100.7"], "198.51.100.7"),
            (1, vec![forged], "203.0.113.9"),
            (2, vec![forged], "198.51.100.7"),
            (
                2,
                vec!["1.1.1.1", "198.51.100.7", "203.0.113.9"],
                "198.51.100.7",
            ),
            (2, vec!["[2001:db9::1]:4711, 203.0.113.9"], "2001:db9::1"),
            // Who leaves hops out gets no say: the address of the connection counts.
            (2, vec!["198.51.100.7"], "10.1.2.3"),
            (1, vec![], "10.1.2.3"),
            (16, vec![forged], "10.1.2.3"),
            // A place that cannot be read is not filled from further left.
            (2, vec!["1.1.1.1, unknown, 203.0.113.9"], "10.1.2.3"),
            (1, vec!["1.1.1.1,"], "10.1.2.3"),
            (1, vec!["1.1.1.1", ""], "10.1.2.3"),
        ] {
            assert_eq!(client(hops, &forwarded), expected, "{hops} {forwarded:?}");
        }
    }

    #[test]
    fn hops_are_counted_within_bounds_and_without_networks() {
        assert!(TrustedProxies::hops(0).is_err() && TrustedProxies::hops(17).is_err());
        let counted = TrustedProxies::hops(1).unwrap();
        assert!(counted.with("10.0.0.0/8").is_err());
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for odd in ["", "10.0.0.0/33", "proxy.example", "10.0.0"] {
            assert!(TrustedProxies::default().with(odd).is_err(), "{odd}");
        }
    }
}
