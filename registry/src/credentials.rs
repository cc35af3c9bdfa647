//! Where a user's logins are found: given on the command line, in auth files, or with a helper program.

mod file;
mod helper;

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Result, Secret, options::below};

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A name and a password (or an access token in its place).
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, which some registries hand out instead of taking passwords.
    IdentityToken(Secret),
}

impl FromStr for Login {
    type Err = std::convert::Infallible;

    /// Reads `USER[:PASSWORD]`, as `--creds` takes it.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self::Password { user: user.to_owned(), password: Secret::new(password) })
    }
}

/// The logins of a user, and where to look for them. Nothing is read before a registry asks.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Given by the caller: used for the registry that the image's name names, and for no other.
    pub given: Option<Login>,
    /// Auth files, the first that knows the registry wins.
    pub files: Vec<PathBuf>,
}

impl Credentials {
    /// The files that docker, podman and skopeo use.
    pub(crate) fn from_environment(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<&Path>,
        configuration: Option<&Path>,
    ) -> Self {
        if let Some(only) = variable("REGISTRY_AUTH_FILE") {
            return Self { given: None, files: vec![only.into()] };
        }
        let runtime = match variable("XDG_RUNTIME_DIR") {
            Some(directory) => Some(PathBuf::from(directory).join("containers/auth.json")),
            None => own_uid().map(|uid| format!("/run/containers/{uid}/auth.json").into()),
        };
        let docker = match variable("DOCKER_CONFIG") {
            Some(directory) => Some(PathBuf::from(directory).join("config.json")),
            None => below(home, ".docker/config.json"),
        };
        let own = below(configuration, "containers/auth.json");
        Self { given: None, files: [runtime, own, docker].into_iter().flatten().collect() }
    }

    /// The login for `registry`, which may be narrowed to a namespace of it.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        for path in &self.files {
            if let Some(login) = file::find(path, registry, repository)? {
                log::debug!("using the login for {registry} from {}", path.display());
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}
