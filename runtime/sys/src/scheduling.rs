//! Scheduling policy, I/O priority and memory policy of the calling thread.

use std::{ffi::c_int, ffi::c_ulong, io};

use nix::errno::Errno;

/// struct sched_attr without the utilisation clamps, sched_setattr(2).
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "named as in the manual page")]
pub struct SchedAttr {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) on the caller.
pub fn sched_setattr(attr: &SchedAttr) -> io::Result<()> {
    #[repr(C)]
    struct Raw {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let raw = Raw {
        size: size_of::<Raw>() as u32,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
    };
    // SAFETY: the structure is the manual page's first version, says its own size, and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) };
    Errno::result(result)?;
    Ok(())
}

/// ioprio_set(2) on the caller.
pub fn ioprio_set(class: u8, priority: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = c_int::from(class) << IOPRIO_CLASS_SHIFT | c_int::from(priority);
    // SAFETY: three integers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    Errno::result(result)?;
    Ok(())
}

/// set_mempolicy(2) on the caller.
pub fn set_mempolicy(mode: u32, nodes: &[u32]) -> io::Result<()> {
    const WORD: u32 = c_ulong::BITS;
    let highest = nodes.iter().copied().max();
    // The kernel's own limit is 1024 nodes; a number from a document must not size a buffer freely.
    if highest.is_some_and(|node| node >= 4096) {
        return Err(Errno::EINVAL.into());
    }
    let words = highest.map_or(0, |node| node / WORD + 1);
    let mut mask = vec![0 as c_ulong; words as usize];
    for node in nodes {
        if let Some(word) = mask.get_mut((node / WORD) as usize) {
            *word |= 1 << (node % WORD);
        }
    }
    let pointer = if mask.is_empty() { std::ptr::null() } else { mask.as_ptr() };
    // The kernel reads one bit less than it is told (set_mempolicy(2), NOTES of numa(3)).
    let bits = c_ulong::from(words) * c_ulong::from(WORD) + 1;
    // SAFETY: the mask has at least `bits - 1` bits, all the kernel reads, and outlives the call; it may be
    // null when no node is named.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    Errno::result(result)?;
    Ok(())
}
