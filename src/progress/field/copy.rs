//! What viewers get of a field: a header and the values.
//!
//! The header has 64 bytes, then come `ny` rows of `nx` values. All numbers are little-endian.
//!
//! | offset | type | content |
//! |---|---|---|
//! | 0 | u8 | version, 1 |
//! | 1 | u8 | bytes per value: 4 is f32, 8 is f64 |
//! | 2 | u16 | the header's length in bytes, where the values begin: 64 |
//! | 4 | u32 | ny, the number of rows |
//! | 8 | u32 | nx, the number of columns |
//! | 12 | u32 | 0 |
//! | 16 | u64 | the field's id |
//! | 24 | f64 | the position of the field's job |
//! | 32 | f64 | x0, the x of the left edge; NaN: none given |
//! | 40 | f64 | x1, the x of the right edge; NaN: none given |
//! | 48 | f64 | y0, the y of the first row's edge; NaN: none given |
//! | 56 | f64 | y1, the y of the last row's edge; NaN: none given |
//! | 64 | f32 or f64 | the values |
//!
//! The values begin at a multiple of 8: a browser lays a `Float64Array` over them without a copy.

/// The length of the header in bytes.
pub(crate) const HEADER: usize = 64;

/// The most bytes of one field's values: 16 MiB, 2048 x 2048 f32.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// A shape that is no field's, or not that of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A side of the shape is 0.
    #[error("expected a shape of at least 1 x 1, got {ny} x {nx}")]
    Empty {
        /// The number of rows.
        ny: usize,
        /// The number of columns.
        nx: usize,
    },
    /// There are not `ny * nx` values.
    #[error("expected {ny} x {nx} values, got {got}: the shape is [ny, nx], row by row")]
    Length {
        /// The number of rows.
        ny: usize,
        /// The number of columns.
        nx: usize,
        /// The number of values.
        got: usize,
    },
    /// The values take more than 16 MiB.
    #[error("{ny} x {nx} values take more than {BYTES_MAX} bytes: show every second or third one")]
    TooLarge {
        /// The number of rows.
        ny: usize,
        /// The number of columns.
        nx: usize,
    },
}

/// A value of a field: `f32` or `f64`.
pub trait FieldValue: sealed::Value {}
impl FieldValue for f32 {}
impl FieldValue for f64 {}

mod sealed {
    pub trait Value: Copy {
        const BYTES: u8;
        /// Writes the values into `out`, which is as long as they are.
        fn encode(values: &[Self], out: &mut [u8]);
    }

    impl Value for f32 {
        const BYTES: u8 = 4;
        fn encode(values: &[Self], out: &mut [u8]) {
            for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    impl Value for f64 {
        const BYTES: u8 = 8;
        fn encode(values: &[Self], out: &mut [u8]) {
            for (bytes, value) in out.chunks_exact_mut(8).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

/// Where the edges of a field lie: from and to along x and y; NaN: nobody has said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) x: [f64; 2],
    pub(crate) y: [f64; 2],
}

impl Default for Extent {
    fn default() -> Self {
        Self { x: [f64::NAN; 2], y: [f64::NAN; 2] }
    }
}

/// What the header says beside the shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) id: u64,
    pub(crate) position: f64,
    pub(crate) extent: Extent,
}

/// Checks that the values have this shape.
///
/// # Errors
///
/// The shape has no value, is too large, or is not that of the values.
#[inline]
pub(crate) fn check<T: FieldValue>([ny, nx]: [usize; 2], got: usize) -> Result<(), FieldError> {
    let most = BYTES_MAX / usize::from(T::BYTES);
    if ny.checked_mul(nx) == Some(got) && got <= most && got > 0 {
        return Ok(());
    }
    Err(if ny == 0 || nx == 0 {
        FieldError::Empty { ny, nx }
    } else if ny.checked_mul(nx).is_none_or(|count| count > most) {
        FieldError::TooLarge { ny, nx }
    } else {
        FieldError::Length { ny, nx, got }
    })
}

/// Returns the header and the values, whose shape was checked.
pub(crate) fn copy<T: FieldValue>(head: Head, [ny, nx]: [usize; 2], values: &[T]) -> Vec<u8> {
    let mut copy = vec![0; HEADER + size_of_val(values)]; // zeroed pages come free
    let (header, body) = copy.split_at_mut(HEADER);
    let side = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    header[..4].copy_from_slice(&[1, T::BYTES, 64, 0]);
    header[4..8].copy_from_slice(&side(ny));
    header[8..12].copy_from_slice(&side(nx));
    header[16..24].copy_from_slice(&head.id.to_le_bytes());
    let numbers = [head.position].into_iter().chain(head.extent.x).chain(head.extent.y);
    for (bytes, number) in header[24..].chunks_exact_mut(8).zip(numbers) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    T::encode(values, body);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64_at(bytes: &[u8], at: usize) -> f64 {
        f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn a_copy_is_laid_out_as_the_table_says() {
        let extent = Extent { x: [0.0, 2.5], ..Extent::default() };
        let head = Head { id: 258, position: 412.5, extent };
        let bytes = copy(head, [2, 3], &[1.0_f32, 2.0, 3.0, 4.0, 5.0, f32::NAN]);
        assert_eq!(bytes[..16], [1, 4, 64, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..24], [2, 1, 0, 0, 0, 0, 0, 0]);
        let numbers = [24, 32, 40].map(|at| f64_at(&bytes, at).to_bits());
        assert_eq!(numbers, [412.5, 0.0, 2.5].map(f64::to_bits));
        assert!(f64_at(&bytes, 48).is_nan() && f64_at(&bytes, 56).is_nan());
        let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).to_bits();
        let values: Vec<_> = bytes[HEADER..].chunks_exact(4).map(value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN].map(f32::to_bits));

        let bytes = copy(head, [1, 2], &[1.5_f64, -2.5]);
        assert_eq!((bytes[1], bytes.len()), (8, HEADER + 16));
        assert_eq!(f64_at(&bytes, 72).to_bits(), (-2.5_f64).to_bits());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let [ny, nx] = [2, 2];
        assert_eq!(check::<f32>([ny, nx], 3), Err(FieldError::Length { ny, nx, got: 3 }));
        for [ny, nx] in [[0, 3], [3, 0], [0, 0]] {
            assert_eq!(check::<f32>([ny, nx], 3), Err(FieldError::Empty { ny, nx }));
            assert_eq!(check::<f64>([ny, nx], 0), Err(FieldError::Empty { ny, nx }));
        }
        // The product of the last is 1 modulo the word's size.
        for [ny, nx] in [[usize::MAX, 2], [1 << 32, 1 << 32], [3, usize::MAX / 3 * 2 + 1]] {
            assert_eq!(check::<f32>([ny, nx], 1), Err(FieldError::TooLarge { ny, nx }));
        }
        let most = BYTES_MAX / 8;
        assert_eq!(check::<f64>([1, most], most), Ok(()));
        assert!(check::<f64>([1, most + 1], most + 1).is_err());
        assert_eq!(check::<f32>([1, most + 1], most + 1), Ok(()));
    }
}
