//! How many connections each peer has: one that opens as many as it can must leave some to others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// An IPv4 address, or the /64 that one IPv6 host can take addresses from as it likes.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The open connections of each peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place, given back when it is dropped, also by a connection that panics.
#[derive(Debug)]
pub(super) struct Place {
    peers: Peers,
    network: IpAddr,
}

impl Peers {
    /// A place for one more connection of this peer, if it has fewer than `most`.
    pub(super) fn admit(&self, address: IpAddr, most: usize) -> Option<Place> {
        let network = network(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place {
            peers: self.clone(),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_has_its_share_leaves_the_rest_to_others() {
        let peers = Peers::default();
        let [greedy, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let held: Vec<_> = (0..3).map_while(|_| peers.admit(greedy, 2)).collect();
        assert_eq!(held.len(), 2);
        assert!(peers.admit(other, 2).is_some());
        drop(held);
        assert!(peers.admit(greedy, 2).is_some());
        assert!(peers.0.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn an_ipv6_host_is_its_64() {
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|text| network(text.parse().unwrap()));
        assert_eq!(one, same);
        assert_ne!(one, other);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped).to_string(), "10.0.0.1");
    }
}
