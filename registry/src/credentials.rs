//! Where a user's logins are found: given on the command line, in auth files, or with a helper program.

mod file;
mod helper;

use std::{
    ffi::OsString,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Error, Result, Secret, options::below};

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
    /// Where a new login goes when none of the files exists.
    pub preferred: Option<PathBuf>,
}

/// Where a login is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file that only its owner can read.
    File(PathBuf),
    /// With a credential helper of this name.
    Helper(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Helper(name) => write!(f, "docker-credential-{name}"),
        }
    }
}

impl Login {
    /// Whose login it is; a token does not tell.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Password { user, .. } => Some(user),
            Self::IdentityToken(_) => None,
        }
    }
}

impl Credentials {
    /// The files that docker, podman and skopeo use.
    pub(crate) fn from_environment(
        variable: &dyn Fn(&str) -> Option<OsString>,
        home: Option<&Path>,
        configuration: Option<&Path>,
    ) -> Self {
        if let Some(only) = variable("REGISTRY_AUTH_FILE") {
            return Self { files: vec![only.into()], ..Self::default() };
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
        let files = [runtime, own.clone(), docker].into_iter().flatten().collect();
        // The runtime directory forgets everything at the next boot.
        Self { given: None, files, preferred: own }
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

    /// Keeps a login: with the helper that a file names for this registry, else in the first file that exists,
    /// else in the preferred one.
    pub fn store(&self, registry: &str, login: &Login) -> Result<Kept> {
        for path in &self.files {
            if let Some(name) = file::helper_for(path, registry)? {
                helper::store(&name, &file::server_name(registry), login)?;
                return Ok(Kept::Helper(name));
            }
        }
        let existing = self.files.iter().find(|path| path.is_file());
        let path =
            existing.or(self.preferred.as_ref()).or(self.files.first()).ok_or_else(|| {
                let (place, problem) = (registry.to_owned(), "there is no place to keep a login");
                Error::Unsupported { place, problem }
            })?;
        file::store(path, registry, login)?;
        Ok(Kept::File(path.clone()))
    }

    /// Forgets a login wherever it is; says where it was.
    pub fn remove(&self, registry: &str) -> Result<Vec<Kept>> {
        let mut removed = Vec::new();
        for path in &self.files {
            if let Some(name) = file::helper_for(path, registry)?
                && helper::get(&name, &file::server_name(registry))?.is_some()
            {
                helper::erase(&name, &file::server_name(registry))?;
                removed.push(Kept::Helper(name));
            }
            if file::remove(path, registry)? {
                removed.push(Kept::File(path.clone()));
            }
        }
        Ok(removed)
    }
}

fn own_uid() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}
