//! Programs that decide about devices for a cgroup, bpf(2).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use nix::errno::Errno;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes a shorter structure than its own.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The same for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The same for BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
}

/// The same for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15); each item is a `struct bpf_insn`.
pub fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"devices");
    let attributes = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: name,
    };
    // SAFETY: the structure begins union bpf_attr as BPF_PROG_LOAD reads it; `insns` and `license` point
    // to memory of the given length that outlives the call.
    let fd = unsafe { bpf(PROG_LOAD, &attributes) }?;
    // SAFETY: the call returned a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, beside those it has; all have to allow.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let attributes = attach(cgroup, program, ALLOW_MULTI)?;
    // SAFETY: the structure begins union bpf_attr as BPF_PROG_ATTACH reads it, and holds no pointer.
    unsafe { bpf(PROG_ATTACH, &attributes) }.map(drop)
}

/// Takes a program with this id off a cgroup.
pub fn detach_device_program(cgroup: impl AsFd, id: u32) -> io::Result<()> {
    let by_id = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: the structure begins union bpf_attr as BPF_PROG_GET_FD_BY_ID reads it, without pointers.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &by_id) }?;
    // SAFETY: the call returned a new descriptor.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = attach(cgroup, program.as_fd(), 0)?;
    // SAFETY: the structure begins union bpf_attr as BPF_PROG_DETACH reads it, and holds no pointer.
    unsafe { bpf(PROG_DETACH, &attributes) }.map(drop)
}

/// The ids of the programs attached to a cgroup itself.
pub fn attached_device_programs(cgroup: impl AsFd) -> io::Result<Vec<u32>> {
    // The kernel attaches at most 64 (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0_u32; 64];
    let mut attributes = Query {
        target_fd: number(cgroup)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: 64,
    };
    // SAFETY: the structure begins union bpf_attr as BPF_PROG_QUERY reads and writes it; `prog_ids` points
    // to 64 numbers, as `prog_cnt` says, that outlive the call.
    unsafe { bpf(PROG_QUERY, &raw mut attributes) }?;
    let count = usize::try_from(attributes.prog_cnt).unwrap_or(0).min(ids.len());
    Ok(ids[..count].to_vec())
}

fn attach(cgroup: impl AsFd, program: impl AsFd, flags: u32) -> io::Result<Attach> {
    Ok(Attach {
        target_fd: number(cgroup)?,
        attach_bpf_fd: number(program)?,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
    })
}

fn number(fd: impl AsFd) -> io::Result<u32> {
    u32::try_from(fd.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF.into())
}

/// # Safety
///
/// `attributes` must be what the command takes, and its pointers good for the call.
unsafe fn bpf<T>(command: libc::c_int, attributes: *const T) -> io::Result<libc::c_int> {
    // SAFETY: the caller promises that the structure fits the command.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let result = Errno::result(result)?;
    libc::c_int::try_from(result).map_err(|_| Errno::EBADF.into())
}
