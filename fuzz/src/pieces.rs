//! An input that consists of several pieces.

/// Splits an input: each piece follows its length in two bytes, little-endian. The last one may be cut.
pub fn split(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

/// Makes the input that [`split`] takes apart into these pieces.
///
/// # Panics
/// If a piece is too long.
pub fn join<P: AsRef<[u8]>>(pieces: impl IntoIterator<Item = P>) -> Vec<u8> {
    let mut input = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        let length = u16::try_from(piece.len()).expect("a short piece");
        input.extend(length.to_le_bytes());
        input.extend(piece);
    }
    input
}
