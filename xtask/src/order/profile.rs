//! What callgrind wrote down of a run of the service: which function ran how many instructions itself, and which it called,
//! in the order of the calls in its code (`Callgrind Format Specification` in Valgrind's manual).

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;

/// Times that a function is called in each request, at least, to be one of those that matter.
const OFTEN: f64 = 0.3;
/// Instructions that one which nobody calls runs of its own, at least: a thread's, or one that the compiler jumps to.
const MUCH: f64 = 50.0;
/// Bytes of a file, as a power of two, that Linux maps at once where one of them is touched.
const MAPPED_AT_ONCE: u32 = 16;
/// What callgrind calls the object of functions that were put side by side before.
const UNKNOWN: &str = "???";

/// One run.
#[derive(Debug, Default)]
pub(super) struct Profile {
    functions: HashMap<String, Function>,
    /// In the order in which they stand there.
    names: Vec<String>,
}

#[derive(Debug, Default)]
struct Function {
    /// Whether it is the service's, and no library's.
    ours: bool,
    /// What is mapped where it runs; nothing where it was put side by side with others before.
    mapped: HashSet<u64>,
    /// Instructions of its own.
    instructions: u64,
    /// How often it is called.
    called: u64,
    /// Whom it calls, and how often.
    calls: Vec<(String, u64)>,
}

/// Names are written once, and told by a number from then on.
#[derive(Debug, Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn read(&mut self, text: &str) -> anyhow::Result<String> {
        let (number, name) = match text.split_once(' ') {
            Some((number, name)) => (number, Some(name)),
            None => (text, None),
        };
        if let Some(name) = name {
            self.0.insert(number.to_owned(), name.to_owned());
        }
        self.0.get(number).cloned().with_context(|| format!("`{text}` names nothing"))
    }
}

impl Profile {
    /// Reads what callgrind has written, with instructions told apart and names as they are.
    ///
    /// # Errors
    /// It is of another form.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut functions, mut objects) = (Names::default(), Names::default());
        let (mut current, mut ours, mut is_placed, mut callee) = (String::new(), false, false, None);
        let mut address = 0;
        let mut profile = Self::default();
        for line in text.lines() {
            if let Some(object) = line.strip_prefix("ob=") {
                // Where functions were put side by side before, callgrind does not know whose they are.
                let object = objects.read(object)?;
                (ours, is_placed) = (!object.contains(".so"), object != UNKNOWN);
            } else if let Some(object) = line.strip_prefix("cob=") {
                objects.read(object)?;
            } else if let Some(function) = line.strip_prefix("fn=") {
                current = without_depth(&functions.read(function)?).to_owned();
                profile.function(&current).ours = ours;
            } else if let Some(function) = line.strip_prefix("cfn=") {
                callee = Some(without_depth(&functions.read(function)?).to_owned());
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let count = calls.split(' ').next().unwrap_or_default().parse()?;
                let callee = callee.clone().context("a call of nothing")?;
                profile.function(&callee).called += count;
                profile.function(&current).call(callee, count);
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                address = moved(address, line.split(' ').next().unwrap_or_default())?;
                if is_placed {
                    profile.function(&current).mapped.insert(address >> MAPPED_AT_ONCE);
                }
                // Behind a call stands what it cost, which is not the caller's own.
                if callee.take().is_none() {
                    let cost = line.rsplit(' ').next().unwrap_or_default();
                    profile.function(&current).instructions += cost.parse::<u64>()?;
                }
            }
        }
        Ok(profile)
    }

    fn function(&mut self, name: &str) -> &mut Function {
        if !self.functions.contains_key(name) {
            self.names.push(name.to_owned());
        }
        self.functions.entry(name.to_owned()).or_default()
    }

    /// The functions of the service that each request runs, as the difference to a run with so many requests less: from
    /// whoever begins, each followed by those that it calls.
    pub(super) fn per_request(&self, fewer: &Self, requests: u32) -> Vec<String> {
        let rate = |many: u64, few: u64| many.saturating_sub(few) as f64 / f64::from(requests);
        let before = |name: &str| fewer.functions.get(name);
        let runs = |name: &str, function: &Function| {
            // What a guest was compiled to has no name, but a place.
            let ours = function.ours && !name.starts_with("0x");
            let (calls, instructions) =
                before(name).map_or((0, 0), |before| (before.called, before.instructions));
            ours && (rate(function.called, calls) >= OFTEN
                || rate(function.instructions, instructions) >= MUCH)
        };
        let followed = |name: &str| -> Vec<&str> {
            let Some(function) = self.functions.get(name) else { return Vec::new() };
            let is_often = |(callee, count): &&(String, u64)| {
                rate(*count, before(name).map_or(0, |before| before.calls_of(callee))) >= OFTEN
            };
            function.calls.iter().filter(is_often).map(|(callee, _)| callee.as_str()).collect()
        };
        let called: HashSet<&str> = self.names.iter().flat_map(|name| followed(name)).collect();
        let (mut roots, others): (Vec<&String>, Vec<&String>) =
            self.names.iter().partition(|name| !called.contains(name.as_str()));
        // Of those who begin, the one that leads to most comes first.
        roots.sort_by_key(|name| Reverse(followed(name).len()));
        let (mut ordered, mut seen) = (Vec::new(), HashSet::new());
        let mut next: Vec<&str> = others.into_iter().rev().map(String::as_str).collect();
        next.extend(roots.into_iter().rev().map(String::as_str));
        while let Some(name) = next.pop() {
            if !seen.insert(name) {
                continue;
            }
            if self.functions.get(name).is_some_and(|function| runs(name, function)) {
                ordered.push(name.to_owned());
            }
            next.extend(followed(name).into_iter().rev());
        }
        ordered
    }

    /// The functions of the service that the run has run at all and that are best put side by side, so many at most: those
    /// that were before, and then those for which most is mapped that is of no other use.
    pub(super) fn far_apart(&self, most: usize) -> Vec<String> {
        let run = || {
            let all = self.names.iter().filter_map(|name| Some((name, self.functions.get(name)?)));
            all.filter(|(name, function)| {
                function.ours && function.instructions > 0 && !name.starts_with("0x")
            })
        };
        let mut chosen: HashSet<&String> =
            run().filter(|(_, function)| function.mapped.is_empty()).map(|(name, _)| name).collect();
        let mut users: BTreeMap<u64, Vec<&String>> = BTreeMap::new();
        for (name, function) in run() {
            function.mapped.iter().for_each(|mapped| users.entry(*mapped).or_default().push(name));
        }
        let mut users: Vec<Vec<&String>> = users.into_values().collect();
        users.sort_by_key(Vec::len);
        for users in users {
            let new = users.iter().filter(|name| !chosen.contains(*name)).count();
            if chosen.len() + new > most {
                break;
            }
            chosen.extend(users);
        }
        self.names.iter().filter(|name| chosen.contains(name)).cloned().collect()
    }
}

/// An address, as the difference to the one before it or by itself.
fn moved(address: u64, text: &str) -> anyhow::Result<u64> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Ok(match text.split_at_checked(1) {
        Some(("+", by)) => address.wrapping_add(number(by)?),
        Some(("-", by)) => address.wrapping_sub(number(by)?),
        Some(("*", "")) => address,
        _ => number(text)?,
    })
}

impl Function {
    fn call(&mut self, callee: String, count: u64) {
        match self.calls.iter_mut().find(|(known, _)| *known == callee) {
            Some((_, calls)) => *calls += count,
            None => self.calls.push((callee, count)),
        }
    }

    fn calls_of(&self, callee: &str) -> u64 {
        self.calls.iter().find(|(known, _)| known == callee).map_or(0, |(_, count)| *count)
    }
}

/// A function that calls itself is told apart by how deep it is.
fn without_depth(name: &str) -> &str {
    match name.rsplit_once('\'') {
        Some((function, depth)) if depth.bytes().all(|byte| byte.is_ascii_digit()) => function,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `main` calls `a` and then `b` in each request, `a` calls `c` and the C library, `start` ran once; `times` requests.
    fn run(times: u64) -> Profile {
        let text = format!(
            "positions: instr line\nevents: Ir\n\n\
             ob=(1) /x/mentat\nfl=(1) ???\nfn=(1) main\n0x10 0 7\n\
             cfn=(2) start\ncalls=1 0x90 0\n0x14 0 1000\n\
             cfn=(3) a\ncalls={times} 0x20 0\n+4 0 5000\n\
             cfn=(4) b\ncalls={times} 0x30 0\n* 0 6000\n+4 0 {much}\n\n\
             fn=(4)\n0x30 0 {own}\n\n\
             fn=(3)\n0x20 0 {own}\ncob=(2) /lib/libc.so.6\ncfn=(5) memcpy\ncalls={times} 0x50 0\n+4 0 9\n\
             cfn=(6) c'2\ncalls={times} 0x40 0\n+4 0 9\n\n\
             fn=(6)\n0x40 0 {own}\n\nfn=(2)\n0x90 0 1000\n\n\
             ob=(2)\nfn=(5)\n0x50 0 {own}\n\ntotals: 1\n",
            own = 10 * times,
            much = 100 * times,
        );
        Profile::parse(&text).unwrap()
    }

    #[test]
    fn what_each_request_runs_stands_in_the_order_of_its_calls() {
        assert_eq!(run(50).per_request(&run(10), 40), ["main", "a", "c", "b"]);
    }

    #[test]
    fn what_has_few_neighbours_that_run_is_put_side_by_side() {
        let profile = Profile::parse(
            "ob=(1) /x/mentat\nfn=(1) alone\n0x10010 0 1\nfn=(2) far\n0x20010 0 1\n+0x20000 0 1\n\
             fn=(3) one\n-0x10000 0 1\nfn=(4) two\n+16 0 1\nfn=(5) three\n* 0 1\nfn=(8) 0x30099\n* 0 1\n\
             ob=(2) ???\nfn=(6) moved\n0x10020 0 1\nob=(3) /lib/libc.so.6\nfn=(7) free\n0x90010 0 1\n",
        );
        let profile = profile.unwrap();
        assert_eq!(profile.far_apart(0), ["moved"]);
        assert_eq!(profile.far_apart(3), ["alone", "far", "moved"]);
        assert_eq!(profile.far_apart(5), ["alone", "far", "moved"], "all three, or none");
        assert_eq!(profile.far_apart(6), ["alone", "far", "one", "two", "three", "moved"]);
    }

    #[test]
    fn what_is_of_another_form_is_refused() {
        assert!(Profile::parse("fn=(1)\n").is_err(), "a name that was never told");
        assert!(Profile::parse("fn=(1) a\ncalls=1 0 0\n").is_err(), "a call of nothing");
        assert!(Profile::parse("fn=(1) a\n0x10 0 many\n").is_err(), "no count");
        assert!(Profile::parse("fn=(1) a\n0xx 0 1\n").is_err(), "no address");
    }
}
