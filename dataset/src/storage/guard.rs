//! SSRF protection for web sources: connections to non-public addresses are refused when they are made, whatever the
//! name resolved to before, and redirects are not followed. `ENCAJE_ALLOW_PRIVATE_HOSTS=true` lets operators read from
//! their own servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::environment::env_flag;
use crate::error::DatasetError;

/// Timeouts of a request for part of a web source.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns whether an address is on the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Carrier-grade NAT, where some clouds have metadata servers; protocol assignments; benchmarks; 6to4.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 88 && c == 99);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An embedded IPv4 address (mapped, compatible, NAT64, 6to4) is checked as such.
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    let segments = address.segments();
    // All routed addresses are in 2000::/3, except documentation and other special blocks.
    let is_global = (segments[0] & 0xe000) == 0x2000;
    let is_special = (segments[0] == 0x2001 && (segments[1] < 0x0200 || segments[1] == 0x0db8))
        || (segments[0] == 0x3fff && segments[1] < 0x1000);
    is_global && !is_special
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(v4(high, low)),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Checks the host of a web URL by its text. Fails for a non-public address, or a name of this machine or its network.
pub(crate) fn check_host(url: &url::Url) -> Result<(), DatasetError> {
    if allows_private() {
        return Ok(());
    }
    let is_allowed = match url.host() {
        None => false,
        Some(url::Host::Ipv4(address)) => is_public_v4(address),
        Some(url::Host::Ipv6(address)) => is_public_v6(address),
        Some(url::Host::Domain(name)) => is_public_name(name),
    };
    if is_allowed { Ok(()) } else { Err(refused(url.host_str().unwrap_or(""))) }
}

fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    // A name without a dot is on the local network.
    let is_local = !name.contains('.')
        || [".localhost", ".local", ".internal", ".localdomain", ".home.arpa", ".lan", ".intranet", ".corp"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
    !is_local
}

fn refused(host: &str) -> DatasetError {
    DatasetError::bad_input(
        host,
        "this host is not on the public internet; an operator who wants it read sets ENCAJE_ALLOW_PRIVATE_HOSTS=true",
    )
}

/// Whether the operator allows hosts that are not on the public internet.
pub(crate) fn allows_private() -> bool {
    env_flag("ENCAJE_ALLOW_PRIVATE_HOSTS")
}

/// A resolver that only returns public addresses, at the time of the connection.
#[derive(Debug)]
struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if let Some(inside) = found.iter().find(|address| !is_public(address.ip())) {
                let problem = format!("`{host}` is at {}, which is not on the public internet", inside.ip());
                return Err(problem.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Creates the HTTP client of web sources, one per process.
#[derive(Debug)]
pub(crate) struct GuardedConnector;

impl HttpConnector for GuardedConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
        let client = CLIENT.get_or_init(|| client().map_err(|error| error.to_string()));
        match client {
            Ok(client) => Ok(HttpClient::new(client.clone())),
            Err(problem) => Err(object_store::Error::Generic { store: "HTTP", source: problem.clone().into() }),
        }
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    // A proxy resolves names without the check, so it is only used if everything is allowed.
    let builder = if allows_private() { builder } else { only_public(builder) };
    builder.build()
}

/// Limits a client to public addresses, without a proxy.
pub(crate) fn only_public(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.no_proxy().dns_resolver(Arc::new(PublicResolver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_not_public() {
        let inside = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ];
        for address in inside {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() {
        let error = PublicResolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.to_string().contains("not on the public internet"), "{error}");
    }
}
