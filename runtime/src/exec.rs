//! Another process in a running container: the outside half.

use configs::Process;

use crate::{Container, Error, ExecOptions, Result, Running};

pub(crate) fn exec(_: &Container, _: &Process, _: ExecOptions) -> Result<Running> {
    Err(Error::Unsupported("exec is not there yet".into()))
}
