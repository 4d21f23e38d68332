//! What was found by looking at something that others write, look for look: what is new is taken once, and only when it was
//! found the same twice, so that it is no longer being written.

/// What was found before.
#[derive(Debug)]
pub(crate) struct Looks<T> {
    /// The last that was taken, whatever came of it.
    taken: T,
    /// What the last look found, where it was something else.
    seen: Option<T>,
}

impl<T: PartialEq> Looks<T> {
    pub(crate) fn new(taken: T) -> Self {
        Self { taken, seen: None }
    }

    /// What is to be taken, if anything is.
    pub(crate) fn changed(&mut self, found: T) -> Option<&T> {
        if found == self.taken {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return None;
        }
        self.seen = None;
        self.taken = found;
        Some(&self.taken)
    }

    /// Whether the last look found what was taken.
    pub(crate) fn is_settled(&self) -> bool {
        self.seen.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_taken_once_and_only_when_it_is_no_longer_being_written() {
        let mut looks = Looks::new("1");
        assert_eq!(looks.changed("1"), None);
        assert_eq!(looks.changed("12"), None, "just written");
        assert!(!looks.is_settled());
        assert_eq!(looks.changed("123"), None, "still being written");
        assert_eq!(looks.changed("123"), Some(&"123"));
        assert_eq!(looks.changed("123"), None, "taken before");
        assert!(looks.is_settled());
        assert_eq!(looks.changed("1"), None);
        assert_eq!(looks.changed("1"), Some(&"1"), "the old ones are as good as others");
    }
}
