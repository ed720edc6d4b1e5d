//! Reads DER, as far as certificates need it.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// The tag of the version of a certificate.
pub(super) const EXPLICIT_0: u8 = 0xa0;

/// A row of values, read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Der(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a value, and returns its tag and its contents. Returns `None` if there is none, or if
    /// it is not DER.
    pub(super) fn take_any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Nothing in a certificate is longer than three bytes can tell.
            0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = length.iter().fold(0, |sum, &b| (sum << 8) | usize::from(b));
                (length, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// Takes a value of this tag, and returns its contents. Returns `None` if another one is next.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut after = *self;
        let (found, contents) = after.take_any()?;
        if found != tag {
            return None;
        }
        *self = after;
        Some(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_one_after_another() {
        let mut der = Der::new(&[INTEGER, 1, 7, UTF8_STRING, 0x81, 2, b'a', b'b']);
        assert_eq!(der.take(SET), None, "another tag");
        assert_eq!(der.take(INTEGER), Some(&[7][..]));
        assert_eq!(der.take_any(), Some((UTF8_STRING, &b"ab"[..])));
        assert!(der.is_empty());
        assert_eq!(der.take_any(), None);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        for bytes in [
            &[INTEGER][..],
            &[INTEGER, 1],
            &[INTEGER, 0x80, 0, 0],
            &[INTEGER, 0x82, 1],
            &[INTEGER, 0x84, 0, 0, 0, 0],
            &[INTEGER, 0x83, 0xff, 0xff, 0xff, 0],
        ] {
            assert_eq!(Der::new(bytes).take_any(), None, "{bytes:?}");
        }
    }
}
