//! Whether a login is right, asked of the registry itself.

use std::sync::Arc;

use super::{
    Client,
    host::{Call, Host},
};
use crate::{Result, credentials::Login, transport::Method};

impl Client {
    /// Asks a registry, `host[:port]`, whether it accepts a login. `false`: it wants none from anybody, so
    /// nothing was proved.
    pub fn check_login(&self, registry: &str, login: &Login) -> Result<bool> {
        let name: crate::Reference = format!("{registry}/x").parse()?;
        let insecure = self.endpoints(&name)?.last().is_some_and(|own| own.insecure);
        let shared = &self.shared;
        let (transport, options) = (shared.transport.clone(), shared.options.clone());
        let given = Some(login.clone());
        let host = Arc::new(Host::new(name.registry(), insecure, given, transport, options));
        let doing = format!("log in to {registry}");
        let call = Call::new(Method::GET, "/v2/", &doing);
        host.send(&call)?;
        Ok(host.was_challenged())
    }
}
