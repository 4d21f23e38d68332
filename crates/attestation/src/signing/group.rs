//! A command in a process group of its own: what it starts ends with it, and the terminal is its own while it runs, so that it
//! can ask for a PIN. What leaves the group, as daemons do that hold a key for longer, is let go.
//!
//! Invariant: the group is ended before its leader is waited for, so that its number cannot be another's by then.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// A running command, and all that it has started.
#[derive(Debug)]
pub(super) struct CommandGroup {
    child: Child,
    id: Pid,
    terminal: Option<LentTerminal>,
}

impl CommandGroup {
    /// Starts a command.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let id = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        Ok(Self { child, id, terminal: LentTerminal::lend(id) })
    }

    /// The command itself, for its pipes.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the command itself has ended. It is not waited for yet.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::Pid(self.id), flags)? != WaitStatus::StillAlive)
    }

    /// Ends what is left of the group, and tells how the command itself has ended.
    ///
    /// # Errors
    /// When the system does not say.
    pub(super) fn end(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.child.wait()
    }

    fn kill(&mut self) {
        // That nobody is left of it is no error.
        let _ = killpg(self.id, Signal::SIGKILL);
        self.terminal = None;
    }
}

impl Drop for CommandGroup {
    fn drop(&mut self) {
        // One that was waited for is gone, and its number may be another's.
        if self.has_ended().is_ok() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// The terminal, which belongs to one group at a time: whoever else reads from it is stopped.
#[derive(Debug)]
struct LentTerminal {
    terminal: File,
    own: Pid,
}

impl LentTerminal {
    /// Lends the terminal to a group, where there is one and it is ours.
    fn lend(group: Pid) -> Option<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let own = getpgrp();
        if tcgetpgrp(&terminal).ok()? != own {
            return None;
        }
        tcsetpgrp(&terminal, group).ok()?;
        // It may have read before it was allowed to, and been stopped for it.
        let _ = killpg(group, Signal::SIGCONT);
        Some(Self { terminal, own })
    }
}

impl Drop for LentTerminal {
    fn drop(&mut self) {
        // To take it back from the background stops who does, unless that signal is held off.
        let held_off = SigSet::from(Signal::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let _ = tcsetpgrp(&self.terminal, self.own);
        if let Ok(before) = held_off {
            let _ = before.thread_set_mask();
        }
    }
}
