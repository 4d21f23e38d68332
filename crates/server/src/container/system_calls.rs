//! The system calls that a program in a container has: what ordinary programs need of the kernel, and nothing that makes
//! namespaces, mounts, keyrings or sockets outside its own network. The same for every engine, whose own lists differ: Podman's
//! lets a program without any capability make a user namespace, and have them all in it.
//!
//! Invariant: what is not named here is not there, also where a later kernel has it.

use serde_json::{Value, json};

/// Those that a program has, by the names of Linux on x86-64 and on 64-bit Arm.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    "accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget", "capset",
    "chdir", "chmod", "chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range",
    "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "execve", "execveat",
    "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork",
    "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue",
    "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_mempolicy", "get_robust_list",
    "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid", "geteuid", "getgid",
    "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt",
    "gettid", "gettimeofday", "getuid", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1",
    "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
    "ioctl", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lgetxattr", "link", "linkat", "listen", "listxattr", "llistxattr",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2",
    "mlockall", "mmap", "mprotect", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd", "msync",
    "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
    "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll",
    "ppoll", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "process_mrelease", "pselect6", "pwrite64",
    "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg",
    "recvmsg", "remap_file_pages", "removexattr", "rename", "renameat", "renameat2", "restart_syscall",
    "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
    "sched_yield", "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "sendfile", "sendmmsg",
    "sendmsg", "sendto", "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsuid",
    "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid",
    "setreuid", "setrlimit", "setsid", "setsockopt", "setuid", "setxattr", "shmat", "shmctl", "shmdt",
    "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "socketpair", "splice", "stat", "statfs",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "sync_file_range2", "syncfs", "sysinfo",
    "tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times", "tkill", "truncate",
    "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes", "vfork", "vmsplice", "wait4",
    "waitid", "write", "writev",
];

/// Those that it is denied with "not permitted", as by a kernel that knows them; all others are answered as by one that does not.
#[rustfmt::skip]
const DENIED: &[&str] = &[
    "_sysctl", "acct", "add_key", "adjtimex", "afs_syscall", "arch_specific_syscall", "bpf", "chroot",
    "clock_adjtime", "clock_settime", "create_module", "delete_module", "fanotify_init", "fanotify_mark",
    "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "getpmsg", "init_module",
    "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mbind", "migrate_pages", "modify_ldt", "mount",
    "mount_setattr", "move_mount", "move_pages", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
    "mq_timedsend", "mq_unlink", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree",
    "perf_event_open", "pidfd_getfd", "pivot_root", "process_madvise", "process_vm_readv",
    "process_vm_writev", "ptrace", "putpmsg", "query_module", "quotactl", "quotactl_fd", "reboot",
    "request_key", "security", "set_mempolicy", "set_mempolicy_home_node", "setdomainname", "sethostname",
    "setns", "settimeofday", "swapoff", "swapon", "syscalls", "sysfs", "syslog", "tuxcall", "umount2",
    "unshare", "uselib", "userfaultfd", "ustat", "vhangup", "vserver",
];

/// Families of sockets: within the machine, IPv4, IPv6, and routes. Others, such as those between a virtual machine and its host,
/// know no namespaces.
const SOCKET_FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// What `personality` may be asked for: Linux as it is, or what it is now.
const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];
/// The flags of `clone` that make namespaces (`CLONE_NEW…`).
const NAMESPACES: u64 = 0x7e02_0000;
const NOT_PERMITTED: u64 = 1;
/// For calls that have an older form, which programs then use.
const NO_SUCH_CALL: u64 = 38;

/// The profile, as engines take it.
pub(super) fn profile() -> Value {
    let allow = |name: &str, value: u64, op: &str| {
        let argument = json!({ "index": 0, "value": value, "valueTwo": 0, "op": op });
        json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument] })
    };
    let mut rules = vec![
        json!({ "names": ALLOWED, "action": "SCMP_ACT_ALLOW" }),
        json!({ "names": DENIED, "action": "SCMP_ACT_ERRNO", "errnoRet": NOT_PERMITTED }),
        // Its flags are in memory, where no filter sees them; what makes threads falls back to `clone`.
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": NO_SUCH_CALL }),
        // None of these flags: what is left of them by the mask is 0.
        allow("clone", NAMESPACES, "SCMP_CMP_MASKED_EQ"),
    ];
    rules.extend(SOCKET_FAMILIES.map(|family| allow("socket", family, "SCMP_CMP_EQ")));
    rules.extend(PERSONALITIES.map(|kind| allow("personality", kind, "SCMP_CMP_EQ")));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": NO_SUCH_CALL,
        // Without the calls of 32-bit programs, which are others by other numbers.
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": [] },
        ],
        "syscalls": rules,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_both_allowed_and_denied_and_what_makes_namespaces_is_not_allowed() {
        let (allowed, denied): (HashSet<_>, HashSet<_>) = (ALLOWED.iter().collect(), DENIED.iter().collect());
        assert!(allowed.is_disjoint(&denied));
        assert_eq!((allowed.len(), denied.len()), (ALLOWED.len(), DENIED.len()));
        for name in
            ["unshare", "setns", "mount", "keyctl", "add_key", "bpf", "ptrace", "io_uring_setup", "mq_open"]
        {
            assert!(denied.contains(&name), "{name}");
        }
        for name in ["clone", "clone3", "socket", "personality"] {
            assert!(!allowed.contains(&name), "{name}");
        }
    }
}
