//! What an execution may add to a directory. It is counted by what is there: bytes by which files grew, and a block for
//! each name. What becomes smaller, or goes away, is given back as far as it had been taken for that same file.
//!
//! Invariant: nothing grows before as much was taken, and nothing is given back but what is gone and was taken by this
//! execution for this file. So a directory never holds more than it did, the quotas of the executions that write there
//! added, in whatever order they write, cut, link, move and remove. Who changes a directory has the [`Turn`], so that what
//! was measured still holds when it is changed; what is removed while someone has it open is there until it is closed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use mentat_manifest::ByteCount;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Bytes that a name in a directory counts for, whatever it is a name of: a block.
pub(crate) const ENTRY_BYTES: u64 = 4096;
/// Files of which an execution is known to have made them larger; what it takes for further ones stays taken.
const MAX_SHARES: usize = 100_000;
/// The largest place in a file: Linux writes nothing at all of what would reach behind it.
const LAST_OFFSET: u64 = i64::MAX.unsigned_abs();

/// A file or directory, by whatever name it is reached: what guests are told as its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId(pub(crate) u64);

/// What a file is before it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: FileId,
    pub(crate) size: u64,
    /// How many names it has; a directory has one.
    pub(crate) names: u64,
}

/// What the executions of a runtime know of the directories that they share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Storage(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// By directory of the host; there are as many as the operator mounts.
    turns: Mutex<HashMap<Box<Path>, Arc<AsyncMutex<()>>>>,
    held: Mutex<HashMap<FileId, Holding>>,
}

/// A file that is open.
#[derive(Debug, Default)]
struct Holding {
    holders: usize,
    /// Whether it has no name any more, so that it goes with the last who holds it.
    removed: bool,
}

/// What one execution may add to one directory. Shared by all who write there for it.
#[derive(Clone, Debug)]
pub(crate) struct Quota(Arc<Account>);

#[derive(Debug)]
struct Account {
    guest: String,
    limit: ByteCount,
    storage: Storage,
    turn: Arc<AsyncMutex<()>>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    shares: HashMap<FileId, Share>,
}

/// What was taken for one file.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    bytes: u64,
    names: u64,
}

/// A directory is full, as far as this execution goes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{guest}` is full: an execution may add {limit} to it")]
pub(crate) struct Full {
    guest: String,
    limit: ByteCount,
}

/// The right to change a directory; nobody else changes it meanwhile. Where nothing is counted, it is nobody's.
#[derive(Debug)]
pub(crate) struct Turn(Option<(Quota, OwnedMutexGuard<()>)>);

/// A file that is open: as long as this lives, what it takes of the disk is taken.
#[derive(Debug)]
pub(crate) struct Held {
    quota: Quota,
    id: FileId,
}

impl FileId {
    /// As Wasmtime tells guests, so that both speak of the same.
    pub(crate) fn of(device: u64, inode: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (device, inode).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Facts {
    /// By how much a write makes the file larger.
    pub(crate) fn growth(&self, offset: u64, length: u64) -> u64 {
        let end = offset.saturating_add(length);
        if length == 0 || end > LAST_OFFSET { 0 } else { end.saturating_sub(self.size) }
    }

    /// By how much the file becomes larger with this size.
    pub(crate) fn growth_to(&self, size: u64) -> u64 {
        if size > LAST_OFFSET { 0 } else { size.saturating_sub(self.size) }
    }
}

impl Storage {
    /// The turns of those who change a directory of the host.
    pub(crate) fn turns(&self, directory: &Path) -> Arc<AsyncMutex<()>> {
        Arc::clone(self.0.turns.lock().entry(directory.into()).or_default())
    }

    /// Notes that the last name of a file is gone; whether nobody has it open.
    fn is_gone(&self, id: FileId) -> bool {
        match self.0.held.lock().get_mut(&id) {
            Some(holding) => {
                holding.removed = true;
                false
            }
            None => true,
        }
    }

    /// Notes that someone has closed a file; whether it went with that.
    fn release(&self, id: FileId) -> bool {
        let mut held = self.0.held.lock();
        let Some(holding) = held.get_mut(&id) else { return false };
        holding.holders = holding.holders.saturating_sub(1);
        let (is_last, removed) = (holding.holders == 0, holding.removed);
        if is_last {
            held.remove(&id);
        }
        is_last && removed
    }
}

impl Quota {
    pub(crate) fn new(guest: &str, limit: ByteCount, storage: Storage, turn: Arc<AsyncMutex<()>>) -> Self {
        Self(Arc::new(Account { guest: guest.to_owned(), limit, storage, turn, taken: Mutex::default() }))
    }

    /// Whether both are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits for the right to change the directory.
    pub(crate) async fn turn(&self) -> Turn {
        let exclusive = Arc::clone(&self.0.turn).lock_owned().await;
        Turn(Some((self.clone(), exclusive)))
    }

    fn take(&self, file: Option<FileId>, share: Share) -> Result<(), Full> {
        let mut taken = self.0.taken.lock();
        let total = taken.bytes.saturating_add(share.cost());
        if total > self.0.limit.0 {
            return Err(Full { guest: self.0.guest.clone(), limit: self.0.limit });
        }
        taken.bytes = total;
        if let Some(file) = file {
            taken.add(file, share);
        }
        Ok(())
    }

    /// Gives back as much of a share as was taken for the file.
    fn give_back(&self, file: FileId, share: Share) {
        let mut taken = self.0.taken.lock();
        let Some(had) = taken.shares.get_mut(&file) else { return };
        let given = Share { bytes: share.bytes.min(had.bytes), names: share.names.min(had.names) };
        had.bytes -= given.bytes;
        had.names -= given.names;
        if had.cost() == 0 {
            taken.shares.remove(&file);
        }
        taken.bytes = taken.bytes.saturating_sub(given.cost());
    }

    /// Gives back all that was taken for a file that is gone.
    fn forget(&self, file: FileId) {
        self.give_back(file, Share { bytes: u64::MAX, names: u64::MAX });
    }
}

impl Taken {
    fn add(&mut self, file: FileId, share: Share) {
        if share.cost() == 0 || (self.shares.len() >= MAX_SHARES && !self.shares.contains_key(&file)) {
            return;
        }
        let had = self.shares.entry(file).or_default();
        had.bytes = had.bytes.saturating_add(share.bytes);
        had.names = had.names.saturating_add(share.names);
    }
}

impl Share {
    const NAME: Self = Self { bytes: 0, names: 1 };

    fn of(bytes: u64) -> Self {
        Self { bytes, names: 0 }
    }

    fn cost(self) -> u64 {
        self.bytes.saturating_add(self.names.saturating_mul(ENTRY_BYTES))
    }
}

impl Turn {
    /// A turn where nothing is counted.
    pub(crate) fn uncounted() -> Self {
        Self(None)
    }

    /// Whether anything is counted.
    pub(crate) fn counts(&self) -> bool {
        self.0.is_some()
    }

    /// Takes bytes by which a file is about to grow.
    pub(crate) fn grow(&self, file: FileId, bytes: u64) -> Result<(), Full> {
        self.quota().map_or(Ok(()), |quota| quota.take(Some(file), Share::of(bytes)))
    }

    /// Gives back bytes by which a file became smaller, or did not grow after all.
    pub(crate) fn shrink(&self, file: FileId, bytes: u64) {
        if let Some(quota) = self.quota() {
            quota.give_back(file, Share::of(bytes));
        }
    }

    /// Takes what a new name counts for, before it is known what gets it.
    pub(crate) fn take_name(&self) -> Result<(), Full> {
        self.quota().map_or(Ok(()), |quota| quota.take(None, Share::NAME))
    }

    /// Notes what got the name that was taken; what is not known keeps it taken.
    pub(crate) fn name_made(&self, file: Option<FileId>) {
        if let (Some(quota), Some(file)) = (self.quota(), file) {
            quota.0.taken.lock().add(file, Share::NAME);
        }
    }

    /// Gives back a name that was taken and not made.
    pub(crate) fn name_not_made(&self) {
        if let Some(quota) = self.quota() {
            let mut taken = quota.0.taken.lock();
            taken.bytes = taken.bytes.saturating_sub(Share::NAME.cost());
        }
    }

    /// Notes that a file has lost a name, and is gone if that was the last and nobody has it open.
    pub(crate) fn removed(&self, before: &Facts) {
        let Some(quota) = self.quota() else { return };
        if before.names > 1 {
            quota.give_back(before.id, Share::NAME);
        } else if quota.0.storage.is_gone(before.id) {
            quota.forget(before.id);
        }
    }

    /// Notes that something was moved to the name of something else.
    pub(crate) fn replaced(&self, moved: Option<Facts>, replaced: Option<Facts>) {
        if let (Some(moved), Some(replaced)) = (moved, replaced)
            // Two names of one file stay as they are.
            && moved.id != replaced.id
        {
            self.removed(&replaced);
        }
    }

    /// Notes that a file is open.
    pub(crate) fn hold(&self, id: FileId) -> Option<Held> {
        let quota = self.quota()?.clone();
        let mut held = quota.0.storage.0.held.lock();
        let holding = held.entry(id).or_default();
        holding.holders = holding.holders.saturating_add(1);
        drop(held);
        Some(Held { quota, id })
    }

    fn quota(&self) -> Option<&Quota> {
        self.0.as_ref().map(|(quota, _)| quota)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.quota.0.storage.release(self.id) {
            self.quota.forget(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::Entry;

    use proptest::prelude::*;

    use super::*;

    fn quota(limit: u64, storage: &Storage) -> Quota {
        Quota::new("/data", ByteCount(limit), storage.clone(), storage.turns(Path::new("/srv")))
    }

    fn turn(quota: &Quota) -> Turn {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(quota.turn())
    }

    fn left(quota: &Quota) -> u64 {
        quota.0.limit.0 - quota.0.taken.lock().bytes
    }

    #[test]
    fn what_was_there_before_is_no_gain_when_it_goes() {
        let quota = quota(10_000, &Storage::default());
        let (turn, file) = (turn(&quota), FileId(1));
        turn.grow(file, 100).unwrap();
        turn.shrink(file, 5_000);
        turn.removed(&Facts { id: FileId(2), size: 9_000, names: 1 });
        assert_eq!(left(&quota), 10_000);
        turn.grow(file, 10_000).unwrap();
        assert!(turn.grow(file, 1).unwrap_err().to_string().contains("`/data` is full"));
    }

    #[test]
    fn what_is_removed_while_it_is_open_counts_until_it_is_closed() {
        let storage = Storage::default();
        let (one, other) = (quota(10_000, &storage), quota(10_000, &storage));
        let file = Facts { id: FileId(1), size: 100, names: 1 };
        turn(&one).grow(file.id, 100).unwrap();
        let held = turn(&one).hold(file.id);
        turn(&one).removed(&file);
        assert_eq!(left(&one), 9_900);
        drop(held);
        assert_eq!(left(&one), 10_000);

        // By another execution, which is not the one that had it counted.
        turn(&one).grow(file.id, 100).unwrap();
        let held = turn(&other).hold(file.id);
        turn(&one).removed(&file);
        drop(held);
        assert_eq!((left(&one), left(&other)), (9_900, 10_000));
    }

    /// A directory as a file system has it, and two executions that do what they like with it.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write { who: usize, file: u64, offset: u64, length: u64 },
        Cut { who: usize, file: u64, size: u64 },
        Link { who: usize, file: u64 },
        Remove { who: usize, file: u64 },
        Open { who: usize, file: u64 },
        CloseAll,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..6, 0..2_usize, 0..4_u64, 0..20_000_u64, 0..9_000_u64).prop_map(
            |(kind, who, file, offset, length)| match kind {
                0 => Step::Write { who, file, offset, length },
                1 => Step::Cut { who, file, size: offset },
                2 => Step::Link { who, file },
                3 => Step::Remove { who, file },
                4 => Step::Open { who, file },
                _ => Step::CloseAll,
            },
        );
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn a_directory_never_grows_by_more_than_the_quotas(steps in steps()) {
            const LIMIT: u64 = 30_000;
            let storage = Storage::default();
            let quotas = [quota(LIMIT, &storage), quota(LIMIT, &storage)];
            // Size and names; the first two files were there before.
            let mut files: HashMap<u64, (u64, u64)> = HashMap::from([(0, (7_000, 1)), (1, (50, 2))]);
            let mut open: Vec<(u64, Option<Held>)> = Vec::new();
            let cost = |files: &HashMap<u64, (u64, u64)>| -> u64 {
                files.values().map(|(size, names)| size + names * ENTRY_BYTES).sum()
            };
            let before = cost(&files);
            for step in steps {
                match step {
                    Step::Write { who, file, offset, length } => {
                        let turn = turn(&quotas[who]);
                        if let Entry::Vacant(new) = files.entry(file) {
                            if turn.take_name().is_err() { continue }
                            turn.name_made(Some(FileId(file)));
                            new.insert((0, 1));
                        }
                        let (size, names) = files[&file];
                        let facts = Facts { id: FileId(file), size, names };
                        let growth = facts.growth(offset, length);
                        if turn.grow(facts.id, growth).is_ok() {
                            files.get_mut(&file).unwrap().0 += growth;
                        }
                    }
                    Step::Cut { who, file, size } => {
                        let turn = turn(&quotas[who]);
                        let Some((had, names)) = files.get(&file).copied() else { continue };
                        let facts = Facts { id: FileId(file), size: had, names };
                        if turn.grow(facts.id, facts.growth_to(size)).is_ok() {
                            turn.shrink(facts.id, had.saturating_sub(size));
                            files.get_mut(&file).unwrap().0 = size;
                        }
                    }
                    Step::Link { who, file } => {
                        let turn = turn(&quotas[who]);
                        let Some((_, names)) = files.get_mut(&file).filter(|(_, names)| *names > 0) else { continue };
                        if turn.take_name().is_ok() {
                            turn.name_made(Some(FileId(file)));
                            *names += 1;
                        }
                    }
                    Step::Remove { who, file } => {
                        let turn = turn(&quotas[who]);
                        let Some((size, names)) = files.get(&file).copied().filter(|(_, names)| *names > 0) else {
                            continue;
                        };
                        turn.removed(&Facts { id: FileId(file), size, names });
                        files.insert(file, (size, names - 1));
                    }
                    Step::Open { who, file } if files.get(&file).is_some_and(|(_, names)| *names > 0) => {
                        open.push((file, turn(&quotas[who]).hold(FileId(file))));
                    }
                    Step::Open { .. } => {}
                    Step::CloseAll => open.clear(),
                }
                files.retain(|file, (_, names)| *names > 0 || open.iter().any(|(held, _)| held == file));
                prop_assert!(cost(&files) <= before + 2 * LIMIT, "{files:?}");
                // What an execution was told it has taken is no less than what it added: nothing came for free.
                let taken: u64 = quotas.iter().map(|quota| LIMIT - left(quota)).sum();
                prop_assert!(cost(&files) <= before + taken, "{files:?}, taken {taken}");
            }
        }
    }
}
