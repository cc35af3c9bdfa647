//! Names to addresses, without libc: a static program has no getaddrinfo, and NSS would load host libraries.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::zone::{Reach, is_localhost};

/// The system's resolver, made from /etc/resolv.conf and /etc/hosts when first needed.
#[derive(Clone, Default)]
pub(super) struct Dns {
    system: Arc<Mutex<Option<TokioResolver>>>,
}

/// No address was found; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAddress(pub(super) String);

/// All addresses found are out of reach.
#[derive(Debug, thiserror::Error)]
#[error("its address is private")]
pub(super) struct Unreachable;

impl Dns {
    /// The resolver for requests that may only use some addresses.
    pub(super) fn reaching(&self, reach: Reach) -> Reaching {
        Reaching { dns: self.clone(), reach }
    }

    fn system(&self) -> Result<TokioResolver, NoAddress> {
        let mut slot = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*slot {
            return Ok(resolver.clone());
        }
        let unusable = |error| NoAddress(format!("/etc/resolv.conf: {error}"));
        let mut builder = TokioResolver::builder_tokio().map_err(unusable)?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(unusable)?;
        *slot = Some(resolver.clone());
        Ok(resolver)
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, NoAddress> {
        // RFC 6761: these never leave the machine.
        if is_localhost(name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let found = self.system()?.lookup_ip(name).await;
        match found {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_nx_domain() => Err(NoAddress("no such host".to_owned())),
            Err(error) if error.is_no_records_found() => {
                Err(NoAddress("it has no address".to_owned()))
            }
            Err(error) => Err(NoAddress(format!("name server: {error}"))),
        }
    }
}

pub(super) struct Reaching {
    dns: Dns,
    reach: Reach,
}

impl Resolve for Reaching {
    fn resolve(&self, name: Name) -> Resolving {
        let (dns, reach) = (self.dns.clone(), self.reach);
        Box::pin(async move {
            let mut addresses = dns.lookup(name.as_str()).await?;
            addresses.retain(|address| reach.allows(*address));
            if addresses.is_empty() {
                return Err(Unreachable.into());
            }
            let addresses: Addrs =
                Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
