//! Whether an artifact is one that this installation wrote, by keyed digests over all of it (AEGIS-256X4 as a MAC, RFC 10032),
//! in two steps: first over all that is read to map it, and while it is mapped over what guests have of it, their code and the
//! data that their memories begin with. That is most of it. Wasmtime maps it, the code executable, and reads nothing of it
//! before a module is instantiated.
//!
//! Invariant: what is made of an artifact is handed out when both digests match, and not before.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use aegis::aegis256x4::Aegis256X4Mac;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Endianness, Object, ObjectSection, ReadCache};

/// Bytes of the key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of a part of an artifact, which has a tag of its own; a part may be shorter. Part of an artifact's form.
const PART_BYTES: u64 = 128 << 10;
/// Threads that make the tags of one artifact's parts.
const THREADS: u64 = 2;
const TAG_BYTES: usize = 32;
/// What is authenticated that is no part.
const READ: u64 = u64::MAX;
const GUESTS: u64 = u64::MAX - 1;
/// At the end of each artifact, with the version of its form.
const MARK: &[u8; 8] = b"mentat\x00\x04";
/// Numbers in a footer, of eight bytes each.
const NUMBERS: usize = 5;
/// Bytes behind what the module says of itself: where what guests have begins and ends, twice; the length of what the module
/// says; two tags; the mark.
const FOOTER_BYTES: usize = NUMBERS * 8 + 2 * TAG_BYTES + MARK.len();
/// Bytes of what a module says of itself at most: names of all its imports and exports.
const MAX_FACTS_BYTES: u64 = 64 << 20;
/// Bytes of an artifact at most: each of its parts has a tag, which is kept until all are there.
const MAX_ARTIFACT_BYTES: u64 = 16 << 30;
/// The sections of an artifact that are the guests': machine code, and the data of their memories. To be looked at whenever
/// Wasmtime is another: that mapping and linking do not read them. They would, were it told to have profilers or debuggers
/// know of the code, or to copy memories' data when it maps them, or did linking instantiate anything.
const GUEST_SECTIONS: [&str; 2] = [".text", ".rodata.wasm"];

type Tag = [u8; TAG_BYTES];
type Mac = Aegis256X4Mac<TAG_BYTES>;

/// Makes the tags, and checks them.
pub(super) struct Authenticator {
    key: [u8; KEY_BYTES],
}

/// Where an artifact has what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    /// Bytes before the footer.
    content: u64,
    /// Bytes of what the module says of itself, the last of those.
    facts: u64,
    /// What is the guests'.
    guests: [Range<u64>; 2],
}

/// Tags of parts, as they are made, each with the number of its part. Those that are read to map the artifact come first.
struct Work<'a> {
    authenticator: &'a Authenticator,
    file: &'a File,
    layout: &'a Layout,
    next: AtomicU64,
}

/// Lets nobody begin with a further part once it is dropped.
struct Stop<'a>(&'a AtomicU64);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Authenticator")
    }
}

impl Authenticator {
    pub(super) fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key }
    }

    /// What is to stand behind an artifact of that name, of whose bytes the last are what the module says of itself.
    pub(super) fn footer(&self, name: &str, file: &File, facts: u64) -> io::Result<Vec<u8>> {
        let layout = Layout { content: file.metadata()?.len(), facts, guests: guests_of(file)? };
        if !layout.is_sound() {
            return Err(wrong("its code is not where an artifact has it"));
        }
        let work = Work { authenticator: self, file, layout: &layout, next: AtomicU64::new(0) };
        // One thread is enough here.
        let (mut tags, (_, others)) = (Vec::new(), mpsc::channel());
        work.gather(layout.parts(), &mut tags, &others)?;
        let read = self.of_what_is_read(name, &layout, &tags).finalize();
        let guests = self.of_what_guests_have(&read, &layout, &tags).finalize();
        Ok([layout.numbers().as_flattened(), &read[..], &guests[..], &MARK[..]].concat())
    }

    /// Has something made of an artifact of that name by what its module says of itself, and answers that.
    ///
    /// # Errors
    /// When it is not what this installation wrote; what was made of it is gone then.
    pub(super) fn open<T>(
        &self,
        name: &str,
        file: &File,
        make: impl FnOnce(&[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        let (layout, read, guests) = read_footer(file)?;
        let work = Work { authenticator: self, file, layout: &layout, next: AtomicU64::new(0) };
        thread::scope(|scope| {
            let _stop = Stop(&work.next);
            let (tell, others) = mpsc::channel();
            // What is small is done before another thread is there.
            for _ in 1..THREADS.min(layout.content.div_ceil(PART_BYTES)) {
                let (work, tell) = (&work, tell.clone());
                let help = move || {
                    let mut buffer = Vec::new();
                    while let Some(made) = work.next(u64::MAX, &mut buffer) {
                        if tell.send(made).is_err() {
                            break;
                        }
                    }
                };
                // Where the system gives no thread, this one does it all.
                let _ = thread::Builder::new().spawn_scoped(scope, help);
            }
            drop(tell);
            let mut tags = Vec::new();
            work.gather(layout.parts_read(), &mut tags, &others)?;
            // Compared in constant time.
            if self.of_what_is_read(name, &layout, &tags).verify(&read).is_err() {
                return Err(wrong("its keyed digest does not match"));
            }
            let mut facts = vec![0; usize::try_from(layout.facts).unwrap_or_default()];
            file.read_exact_at(&mut facts, layout.content - layout.facts)?;
            let made = make(&facts)?;
            work.gather(layout.parts(), &mut tags, &others)?;
            if self.of_what_guests_have(&read, &layout, &tags).verify(&guests).is_err() {
                return Err(wrong("the keyed digest of its code does not match"));
            }
            Ok(made)
        })
    }

    /// Over the name as well, so that one module's code cannot be put in another's place.
    fn of_what_is_read(&self, name: &str, layout: &Layout, tags: &[(u64, Tag)]) -> Mac {
        let mut mac = self.mac(READ);
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(&layout.content.to_le_bytes());
        mac.update(layout.numbers().as_flattened());
        for (_, tag) in tags.iter().take_while(|(number, _)| *number < layout.parts_read()) {
            mac.update(tag);
        }
        mac
    }

    /// Over the other tag as well, so that no code can be put beside what is said of another.
    fn of_what_guests_have(&self, read: &Tag, layout: &Layout, tags: &[(u64, Tag)]) -> Mac {
        let mut mac = self.mac(GUESTS);
        mac.update(read);
        for (_, tag) in tags.iter().skip_while(|(number, _)| *number < layout.parts_read()) {
            mac.update(tag);
        }
        mac
    }

    /// By the key, for one of the things that are authenticated: with another nonce, it is another function.
    fn mac(&self, what: u64) -> Mac {
        let mut nonce = [0; KEY_BYTES];
        nonce.iter_mut().zip(what.to_le_bytes()).for_each(|(byte, of_what)| *byte = of_what);
        Mac::new_with_nonce(&self.key, &nonce)
    }
}

impl Work<'_> {
    /// The tag of the next part with a number below `end`, if there is one that nobody has taken.
    fn next(&self, end: u64, buffer: &mut Vec<u8>) -> Option<io::Result<(u64, Tag)>> {
        let end = end.min(self.layout.parts());
        let next = |number: u64| number.checked_add(1).filter(|next| *next <= end);
        let number = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(self.tag(number, buffer).map(|tag| (number, tag)))
    }

    fn tag(&self, number: u64, buffer: &mut Vec<u8>) -> io::Result<Tag> {
        let part = self.layout.part(number);
        buffer.resize(usize::try_from(part.end - part.start).unwrap_or_default(), 0);
        self.file.read_exact_at(buffer, part.start)?;
        let mut mac = self.authenticator.mac(number);
        mac.update(buffer);
        Ok(mac.finalize())
    }

    /// Makes tags until there are those of all parts with numbers below `end`, by this thread and by others; in order. No
    /// thread has a share of its own to do, since one that is slow to start would be waited for.
    fn gather(
        &self,
        end: u64,
        tags: &mut Vec<(u64, Tag)>,
        others: &Receiver<io::Result<(u64, Tag)>>,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(made) = self.next(end, &mut buffer) {
            tags.push(made?);
        }
        let mut missing = end - tags.iter().filter(|(number, _)| *number < end).count() as u64;
        while missing > 0 {
            let (number, tag) = others.recv().map_err(|_| io::Error::other("a thread ended"))??;
            tags.push((number, tag));
            missing -= u64::from(number < end);
        }
        tags.sort_unstable_by_key(|(number, _)| *number);
        Ok(())
    }
}

impl Layout {
    /// What is read, in three pieces, and what is the guests', in two.
    fn pieces(&self) -> [Range<u64>; 5] {
        let [first, second] = self.guests.clone();
        [0..first.start, first.end..second.start, second.end..self.content, first, second]
    }

    fn parts(&self) -> u64 {
        self.pieces().iter().map(parts_of).sum()
    }

    fn parts_read(&self) -> u64 {
        self.pieces().iter().take(3).map(parts_of).sum()
    }

    /// Where a part is; parts are numbered through the pieces.
    fn part(&self, mut number: u64) -> Range<u64> {
        for piece in self.pieces() {
            match parts_of(&piece) {
                parts if number < parts => {
                    let start = piece.start + number * PART_BYTES;
                    return start..(start + PART_BYTES).min(piece.end);
                }
                parts => number -= parts,
            }
        }
        0..0
    }

    fn numbers(&self) -> [[u8; 8]; NUMBERS] {
        let [first, second] = &self.guests;
        [first.start, first.end, second.start, second.end, self.facts].map(u64::to_le_bytes)
    }

    /// Whether all of it is where it can be.
    fn is_sound(&self) -> bool {
        let [first, second] = &self.guests;
        let Some(facts) = self.content.checked_sub(self.facts) else { return false };
        let places = [first.start, first.end, second.start, second.end, facts];
        self.facts <= MAX_FACTS_BYTES && self.content <= MAX_ARTIFACT_BYTES && places.is_sorted()
    }
}

fn parts_of(piece: &Range<u64>) -> u64 {
    (piece.end - piece.start).div_ceil(PART_BYTES)
}

/// What an artifact says at its end, of which nothing is known to be true yet.
fn read_footer(file: &File) -> io::Result<(Layout, Tag, Tag)> {
    let content = file.metadata()?.len().checked_sub(FOOTER_BYTES as u64);
    let content = content.ok_or_else(|| wrong("it is too short"))?;
    let mut reader = BufReader::with_capacity(FOOTER_BYTES, file);
    reader.seek(SeekFrom::Start(content))?;
    let mut numbers = [0; NUMBERS];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        reader.read_exact(&mut bytes)?;
        *number = u64::from_le_bytes(bytes);
    }
    let (mut read, mut guests, mut mark) = ([0; TAG_BYTES], [0; TAG_BYTES], [0; MARK.len()]);
    reader.read_exact(&mut read)?;
    reader.read_exact(&mut guests)?;
    reader.read_exact(&mut mark)?;
    if mark != *MARK {
        return Err(wrong("it does not end as artifacts do"));
    }
    let [a, b, c, d, facts] = numbers;
    let layout = Layout { content, facts, guests: [a..b, c..d] };
    if layout.is_sound() { Ok((layout, read, guests)) } else { Err(wrong("its lengths are none")) }
}

/// Where an artifact that has just been written has what is the guests'.
fn guests_of(file: &File) -> io::Result<[Range<u64>; 2]> {
    let cache = ReadCache::new(file);
    let elf = ElfFile::<FileHeader64<Endianness>, _>::parse(&cache).map_err(io::Error::other)?;
    let mut guests = GUEST_SECTIONS.map(|name| {
        let range = elf.section_by_name(name).and_then(|section| section.file_range());
        range.map_or(0..0, |(start, length)| start..start.saturating_add(length))
    });
    guests.sort_unstable_by_key(|range| (range.start, range.end));
    Ok(guests)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const FACTS: &[u8] = b"what the module says";

    /// An artifact of a module with data that is larger than a part.
    fn artifact(authenticator: &Authenticator) -> Vec<u8> {
        let data = "some data ".repeat(20_000);
        let text = format!(r#"(module (memory 4) (data (i32.const 0) "{data}") (func (export "f") (nop)))"#);
        let module = wat::parse_str(text).unwrap();
        let mut bytes = wasmtime::Engine::default().precompile_module(&module).unwrap();
        bytes.extend_from_slice(FACTS);
        let footer = authenticator.footer("name", &file(&bytes), FACTS.len() as u64).unwrap();
        bytes.extend_from_slice(&footer);
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// What comes of it, and whether something was made of it.
    fn opened(authenticator: &Authenticator, name: &str, bytes: &[u8]) -> (io::Result<()>, bool) {
        let mut is_made = false;
        let opened = authenticator.open(name, &file(bytes), |facts| {
            is_made = true;
            assert_eq!(facts, FACTS);
            Ok(())
        });
        (opened, is_made)
    }

    #[test]
    fn a_changed_byte_is_found_before_something_is_made_of_it_or_before_that_is_handed_out() {
        let authenticator = Authenticator::new([7; KEY_BYTES]);
        let pristine = artifact(&authenticator);
        assert!(matches!(opened(&authenticator, "name", &pristine), (Ok(()), true)));
        assert!(matches!(opened(&authenticator, "other", &pristine), (Err(_), false)));
        assert!(matches!(opened(&Authenticator::new([8; KEY_BYTES]), "name", &pristine), (Err(_), false)));
        let (layout, ..) = read_footer(&file(&pristine)).unwrap();
        let guests = layout.guests.clone();
        assert!(guests.iter().all(|range| !range.is_empty()) && layout.parts() > 4);
        let end = pristine.len() as u64;
        let mut places: Vec<u64> = (0..end).step_by(9973).chain(layout.content - 1..end).collect();
        for Range { start, end } in &guests {
            places.extend([start - 1, *start, end - 1, *end]);
        }
        for place in places {
            let mut changed = pristine.clone();
            changed[usize::try_from(place).unwrap()] ^= 1;
            let is_guests = guests.iter().any(|range| range.contains(&place));
            let is_second_tag = (end - 8 - TAG_BYTES as u64..end - 8).contains(&place);
            let (opened, is_made) = opened(&authenticator, "name", &changed);
            assert!(opened.is_err(), "{place} of {end}");
            assert_eq!(is_made, is_guests || is_second_tag, "{place} of {end}");
        }
        for length in [0, FOOTER_BYTES - 1, FOOTER_BYTES, pristine.len() / 2, pristine.len() - 1] {
            assert!(matches!(opened(&authenticator, "name", &pristine[..length]), (Err(_), false)));
        }
    }

    #[test]
    fn the_code_of_one_is_not_that_of_another() {
        let authenticator = Authenticator::new([7; KEY_BYTES]);
        let mut one = artifact(&authenticator);
        let (layout, ..) = read_footer(&file(&one)).unwrap();
        // As long, with the same code, and something else is said of it.
        let mut other = one[..usize::try_from(layout.content).unwrap()].to_vec();
        *other.last_mut().unwrap() ^= 1;
        let footer = authenticator.footer("name", &file(&other), FACTS.len() as u64).unwrap();
        let tag = footer.len() - MARK.len() - TAG_BYTES..footer.len() - MARK.len();
        let at = one.len() - footer.len();
        one[at + tag.start..at + tag.end].copy_from_slice(&footer[tag]);
        assert!(matches!(opened(&authenticator, "name", &one), (Err(_), true)));
    }

    #[test]
    fn parts_are_all_there_is_and_each_byte_is_in_one() {
        let some = PART_BYTES + 5;
        for guests in [[0..0, 0..0], [10..10 + 2 * some, 4 * some..6 * some], [0..some, some..7 * some]] {
            let layout = Layout { content: 7 * some, facts: 0, guests };
            assert!(layout.is_sound());
            let mut parts: Vec<_> = (0..layout.parts()).map(|number| layout.part(number)).collect();
            let is_of_guests = |part: &Range<u64>| {
                layout.guests.iter().any(|range| range.start <= part.start && part.end <= range.end)
            };
            let read = usize::try_from(layout.parts_read()).unwrap();
            assert!(parts.iter().skip(read).all(is_of_guests) && !parts.iter().take(read).any(is_of_guests));
            parts.sort_unstable_by_key(|part| part.start);
            let ends: Vec<_> = parts.iter().map(|part| part.end).collect();
            assert!(parts.iter().all(|part| part.end - part.start <= PART_BYTES && part.start < part.end));
            assert!(
                parts.iter().skip(1).map(|part| part.start).eq(ends.iter().copied().take(ends.len() - 1))
            );
            assert_eq!((parts[0].start, ends.last()), (0, Some(&layout.content)));
        }
    }

    #[test]
    fn what_cannot_be_is_not_sound() {
        let layout = |guests, facts| Layout { content: 100, facts, guests };
        assert!(layout([1..5, 7..90], 10).is_sound());
        for (guests, facts) in [
            ([1..5, 7..90], 11),
            ([1..5, 7..90], u64::MAX),
            ([Range { start: 5, end: 1 }, 7..90], 10),
            ([1..8, 7..90], 10),
            ([1..5, 7..u64::MAX], 0),
        ] {
            assert!(!layout(guests.clone(), facts).is_sound(), "{guests:?} {facts}");
        }
    }
}
